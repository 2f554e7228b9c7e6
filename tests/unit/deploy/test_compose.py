"""`compose.yaml` and the images, checked without an engine."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from shared.settings import read_control_plane_settings, read_worker_settings

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "deploy" / "images").glob("*.Dockerfile"))
SECRETS = {
    "CADENCE_SECRET_KEY": "0123456789abcdef" * 4,
    "CADENCE_ENCRYPTION_KEYS": "k1:8f3b0c5ad1e94726b8c0f1d25e7a93640bc8d9e1f2a37564c0918273aedb5f46",
    "CADENCE_WORKER_TOKEN": "fedcba9876543210" * 4,
    "POSTGRES_PASSWORD": "11aa",
    "POSTGRES_APP_PASSWORD": "77aabb",
    "MONGO_PASSWORD": "22bb",
    "MONGO_REPLICA_KEY": "33cc",
    "REDIS_PASSWORD": "44dd",
    "RABBITMQ_PASSWORD": "55ee",
    "MINIO_PASSWORD": "66ffffff",
}
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([?-])([^}]*))?\}")


def interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    """As compose does it: `${NAME:-default}`, `${NAME:?error}`. Raises KeyError for a required name that is not set."""
    if isinstance(node, dict):
        return {key: interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, variables) for value in node]
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == "-":
            return str(rest)
        raise KeyError(name)

    return _VARIABLE.sub(value_of, node).replace("$$", "$")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = interpolated(yaml.safe_load((ROOT / "compose.yaml").read_text()), SECRETS)["services"]
    return found


def test_it_is_valid_against_the_compose_specification() -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(ROOT / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_no_secret_has_a_default(missing: str) -> None:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    with pytest.raises(KeyError, match=missing):
        interpolated(document, {name: value for name, value in SECRETS.items() if name != missing})


def test_every_service_waits_only_for_services_that_exist_and_in_a_way_that_they_offer(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            target = services[other]
            if wanted["condition"] == "service_healthy":
                assert "test" in target["healthcheck"], f"{name} waits for the health of {other}"
            else:
                assert target["restart"].startswith("on-failure"), f"{name} waits for the end of {other}"


@pytest.mark.parametrize("name", ["control-plane", "migrate"])
def test_the_control_plane_gets_settings_that_production_accepts(services: dict[str, Any], name: str) -> None:
    settings = read_control_plane_settings(services[name]["environment"])
    assert settings.process.is_production
    assert settings.host == "0.0.0.0"
    assert settings.packages.s3_bucket_name == "cadence-plugins"
    _hosts_exist(services, settings.postgres_url, settings.redis_url, settings.broker_url)


def test_only_the_migrations_have_the_login_that_owns_the_tables(services: dict[str, Any]) -> None:
    having = {
        name
        for name, service in services.items()
        if SECRETS["POSTGRES_PASSWORD"] in str(service.get("environment")) and name != "postgres"
    }
    assert having == {"migrate"}


@pytest.mark.parametrize("name", ["worker-1", "worker-2"])
def test_a_worker_gets_settings_that_production_accepts_and_no_database_password(
    services: dict[str, Any], name: str
) -> None:
    environment = services[name]["environment"]
    settings = read_worker_settings(environment)
    assert settings.process.is_production
    assert settings.public_url == f"http://{name}:{settings.port}"
    assert SECRETS["POSTGRES_PASSWORD"] not in str(environment)
    assert SECRETS["POSTGRES_APP_PASSWORD"] not in str(environment)
    _hosts_exist(services, settings.mongo_url, settings.redis_url, settings.broker_url, settings.control_plane_url)


def test_both_planes_share_their_keys(services: dict[str, Any]) -> None:
    for name in ("CADENCE_SECRET_KEY", "CADENCE_ENCRYPTION_KEYS", "CADENCE_WORKER_TOKEN", "CADENCE_BROKER_URL"):
        assert len({services[s]["environment"][name] for s in ("control-plane", "worker-1", "worker-2")}) == 1


def test_only_the_gateway_is_reachable_from_outside(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]


def test_the_gateway_is_published_where_nginx_listens_and_passes_on_to_services_that_exist(
    services: dict[str, Any],
) -> None:
    nginx = (ROOT / "deploy" / "gateway" / "nginx.conf").read_text()
    (listens,) = re.findall(r"^\s*listen (\d+)", nginx, re.MULTILINE)
    assert services["gateway"]["ports"] == [f"8000:{listens}"]
    upstreams = dict(re.findall(r"^\s*server ([\w-]+):(\d+)", nginx, re.MULTILINE))
    ports = {name: service.get("environment", {}) for name, service in services.items()}
    assert set(upstreams) == {"control-plane", "worker-1", "worker-2"}
    for name, port in upstreams.items():
        assert port in (ports[name].get("CADENCE_API_PORT"), ports[name].get("CADENCE_WORKER_PORT"))


def test_what_is_mounted_and_built_exists(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), volume
        if build := service.get("build"):
            assert (ROOT / build["dockerfile"]).is_file()


def test_the_example_environment_names_everything_that_compose_asks_for() -> None:
    example = (ROOT / ".env.example").read_text()
    for name, *_ in _VARIABLE.findall((ROOT / "compose.yaml").read_text()):
        assert re.search(rf"^(# )?{name}=", example, re.MULTILINE), name


def test_the_example_environment_names_every_variable_that_is_read() -> None:
    source = "".join(path.read_text() for path in (ROOT / "shared" / "settings").glob("*.py"))
    example = (ROOT / ".env.example").read_text()
    for name in [*re.findall(r"env\.\w+\(\s*\"([A-Z0-9_]+)\"", source), "RABBITMQ_URL"]:
        assert f"CADENCE_{name}" in example, name


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_copies_what_exists_and_runs_as_an_ordinary_user(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("\\\n", " ")
    copies = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert copies
    for *sources, _ in copies:
        for source in sources:
            assert (ROOT / source).exists(), source
    last_stage = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER (?!root)", last_stage, re.MULTILINE)
    module = re.search(r'CMD \["python", "-m", "(\w+)"\]', last_stage)
    assert module
    assert (ROOT / module[1] / "__main__.py").is_file()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_installs_its_plane_alone(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    syncs = [line for line in text.splitlines() if "uv sync" in line]
    plane = dockerfile.stem
    assert plane in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in syncs:
        assert "--no-default-groups" in line
        assert "--compile-bytecode" in line
        assert re.findall(r"--extra (\S+)", line) == [plane]
    assert len(syncs) == 2


def _hosts_exist(services: dict[str, Any], *urls: str) -> None:
    for url in urls:
        assert urlsplit(url).hostname in services, url
