"""Settings from the environment."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ConfigurationInvalid
from shared.settings import read_control_plane_settings, read_worker_settings

GOOD = {
    "CADENCE_SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
    "CADENCE_WORKER_TOKEN": "zyxwvutsrqponmlkjihgfedcba9876543210",
    "CADENCE_ENCRYPTION_KEYS": "k1:" + "ab" * 32,
    "CADENCE_POSTGRES_URL": "postgresql://u:p%40ss@db/cadence",
    "CADENCE_MONGO_URL": "mongodb://m",
    "CADENCE_REDIS_URL": "redis://r",
    "CADENCE_BROKER_URL": "nats://n",
    "CADENCE_CONTROL_PLANE_URL": "http://control/",
    "CADENCE_STORAGE_ROOT": "/var/lib/cadence",
}
Reader = Callable[[Mapping[str, str]], Any]


def problems_of(read: Reader, **changes: str) -> list[str]:
    with pytest.raises(ConfigurationInvalid) as refusal:
        read({**GOOD, **{f"CADENCE_{name}": value for name, value in changes.items()}})
    return refusal.value.detail.splitlines()


def test_the_defaults_are_for_one_machine() -> None:
    settings = read_control_plane_settings(GOOD)

    assert (settings.host, settings.port, settings.process.environment) == ("127.0.0.1", 8000, "development")
    assert settings.security.access_token_minutes == 30
    assert settings.allow_private_model_hosts is False
    assert read_worker_settings(GOOD).control_plane_url == "http://control"


def test_all_problems_are_told_at_once_each_naming_its_variable() -> None:
    found = problems_of(
        read_control_plane_settings,
        POSTGRES_URL="",
        REDIS_URL="http://r",
        API_PORT="70000",
        SECRET_KEY="short",
        LOG_LEVEL="LOUD",
        ALLOW_PRIVATE_MODEL_HOSTS="maybe",
        TRUSTED_PROXIES="10.0.0.0/8,nonsense",
        ENCRYPTION_KEYS="k1:12",
    )

    named = {line.split(":")[0].split(" ")[0] for line in found}
    assert named == {
        f"CADENCE_{name}"
        for name in (
            "POSTGRES_URL",
            "REDIS_URL",
            "API_PORT",
            "SECRET_KEY",
            "LOG_LEVEL",
            "ALLOW_PRIVATE_MODEL_HOSTS",
            "TRUSTED_PROXIES",
            "ENCRYPTION_KEYS",
        )
    }


def test_a_bad_url_is_told_without_its_password() -> None:
    (line,) = problems_of(read_control_plane_settings, POSTGRES_URL="mysql://root:hunter2@db/x")

    assert "CADENCE_POSTGRES_URL" in line
    assert "hunter2" not in line


def test_production_refuses_placeholders_and_open_cors() -> None:
    production = {"ENVIRONMENT": "production"}

    assert problems_of(read_control_plane_settings, **production, SECRET_KEY="a" * 40)
    assert problems_of(read_control_plane_settings, **production, CORS_ORIGINS="*")
    assert read_control_plane_settings({**GOOD, "CADENCE_CORS_ORIGINS": "*"}).cors_origins == ("*",)


def test_rabbitmq_url_is_another_name_for_the_broker() -> None:
    variables = {name: value for name, value in GOOD.items() if name != "CADENCE_BROKER_URL"}

    settings = read_worker_settings({**variables, "CADENCE_RABBITMQ_URL": "amqp://rabbit"})

    assert settings.broker_url == "amqp://rabbit"


def test_packages_are_in_a_directory_or_a_bucket() -> None:
    assert problems_of(read_worker_settings, STORAGE_ROOT="")
    in_bucket = read_worker_settings({**GOOD, "CADENCE_PLUGIN_S3_ENABLED": "true"})
    assert (in_bucket.packages.storage_root, in_bucket.packages.s3_bucket_name) == (None, "cadence-plugins")


def test_a_package_index_is_a_url_and_directory_plugins_need_a_directory() -> None:
    found = problems_of(read_control_plane_settings, PLUGIN_INDEX_URL="ftp://x", ENABLE_DIRECTORY_PLUGINS="true")

    assert [line.split(" ")[0].rstrip(":") for line in found] == [
        "CADENCE_PLUGIN_INDEX_URL",
        "CADENCE_ENABLE_DIRECTORY_PLUGINS",
    ]
    assert read_control_plane_settings({**GOOD, "CADENCE_SYSTEM_PLUGINS_DIR": "/etc/p"}).directory_plugins is None


STRONG = {
    "CADENCE_ENVIRONMENT": "production",
    "CADENCE_ENCRYPTION_KEYS": "k1:8f3b0c5ad1e94726b8c0f1d25e7a93640bc8d9e1f2a37564c0918273aedb5f46",
}


@pytest.mark.parametrize("read", [read_control_plane_settings, read_worker_settings])
def test_production_tells_every_weak_secret_at_once_in_a_line_each_and_repeats_none(read: Reader) -> None:
    database = "POSTGRES_URL" if read is read_control_plane_settings else "MONGO_URL"
    weak = {
        "SECRET_KEY": "please-changeme-please-changeme-1234",
        "WORKER_TOKEN": "ab" * 20,
        "ENCRYPTION_KEYS": "k1:" + bytes(range(32)).hex(),
        database: "postgresql://cadence:postgres@db/x" if database == "POSTGRES_URL" else "mongodb://root:root@m",
        "REDIS_URL": "redis://:password@r",
        "BROKER_URL": "amqp://guest:guest@b",
        "S3_SECRET_ACCESS_KEY": "minioadmin",
    }

    found = problems_of(read, ENVIRONMENT="production", **weak)

    assert sorted(line.split(":")[0] for line in found) == sorted(f"CADENCE_{name}" for name in weak)
    told = "\n".join(found)
    assert not [secret for secret in weak.values() if secret in told]
    # A developer may use them.
    assert not read({**GOOD, **{f"CADENCE_{name}": value for name, value in weak.items()}}).process.is_production


@pytest.mark.parametrize("read", [read_control_plane_settings, read_worker_settings])
def test_production_starts_with_secrets_that_are_random_and_different(read: Reader) -> None:
    assert read({**GOOD, **STRONG}).process.is_production
    same = {**GOOD, **STRONG, "CADENCE_WORKER_TOKEN": GOOD["CADENCE_SECRET_KEY"]}
    with pytest.raises(ConfigurationInvalid) as refusal:
        read(same)
    assert refusal.value.detail.startswith("CADENCE_WORKER_TOKEN: ")


def test_a_weak_key_in_a_file_is_refused_like_one_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("k2:" + "ab" * 32)
    from_file = {"ENCRYPTION_KEYS": "", "ENCRYPTION_KEYS_FILE": str(file)}
    (line,) = problems_of(read_worker_settings, ENVIRONMENT="production", **from_file)
    assert line.startswith("CADENCE_ENCRYPTION_KEYS_FILE: ")
    (line,) = problems_of(read_worker_settings, ENCRYPTION_KEYS="", ENCRYPTION_KEYS_FILE=str(tmp_path / "none"))
    assert "cannot be read" in line
    settings = read_worker_settings({**GOOD, **{f"CADENCE_{name}": value for name, value in from_file.items()}})
    assert settings.security.keys_file == file


def test_a_key_service_needs_a_token_and_in_production_tls() -> None:
    (line,) = problems_of(read_worker_settings, VAULT_URL="https://vault")
    assert "CADENCE_VAULT_TOKEN" in line
    found = problems_of(
        read_worker_settings, ENVIRONMENT="production", VAULT_URL="http://vault", VAULT_TOKEN="t", ENCRYPTION_KEYS=""
    )
    assert found == ["CADENCE_VAULT_URL: the URL must start with https://"]
