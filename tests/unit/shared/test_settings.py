"""Settings from the environment."""

from collections.abc import Callable, Mapping
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
