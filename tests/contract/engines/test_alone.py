"""What a framework does beside running turns: it calls nobody, reads no keys, and comes alone."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from shared.frameworks import Framework
from tests.contract.engines.alone import CONNECTION, Seen
from tests.fakes.instances import API_KEY

# One process for each framework takes as long as all that is asked of it.
pytestmark = pytest.mark.xdist_group("alone")

PLANTED = "planted-0123456789"


class Watched(msgspec.Struct):
    seen: Seen
    connections: set[str]


TRAP = "http://127.0.0.1:9"
"""The port of `discard`: nobody listens there, and a try to connect is seen all the same."""
VENDORS = ("OPENAI", "GOOGLE", "GEMINI", "ANTHROPIC", "AZURE_OPENAI", "GROQ", "LITELLM", "LANGSMITH", "LANGCHAIN")
PLANTED_ENVIRONMENT = {
    **{f"{vendor}_API_KEY": PLANTED for vendor in VENDORS},
    "OPENAI_BASE_URL": TRAP,
    "OPENAI_ORG_ID": PLANTED,
    "GOOGLE_GEMINI_BASE_URL": TRAP,
    "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent.json",
    "GOOGLE_CLOUD_PROJECT": PLANTED,
    "ANTHROPIC_BASE_URL": TRAP,
    "LANGSMITH_TRACING": "true",
    "LANGCHAIN_TRACING_V2": "true",
    "LANGSMITH_ENDPOINT": TRAP,
    "OTEL_EXPORTER_OTLP_ENDPOINT": TRAP,
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "HTTP_PROXY": TRAP,
    "HTTPS_PROXY": TRAP,
    "ALL_PROXY": TRAP,
}
"""Every variable that could make an SDK send something, or send something that is not the tenant's."""


@pytest.fixture(scope="module", params=list(Framework))
def framework(request: pytest.FixtureRequest) -> Framework:
    return Framework(request.param)


@pytest.fixture(scope="module")
def watched(framework: Framework) -> Watched:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.contract.engines.alone", framework],
        env={**os.environ, **PLANTED_ENVIRONMENT},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        timeout=100,
        check=False,
    )
    errors = ended.stderr.decode()
    assert ended.returncode == 0, errors[-3000:]
    connections = {line.removeprefix(CONNECTION) for line in errors.splitlines() if line.startswith(CONNECTION)}
    *_, seen = ended.stdout.splitlines()  # Behind what the worker's code logged.
    return Watched(msgspec.json.decode(seen, type=Seen), connections)


def test_nothing_is_sent_anywhere_but_to_the_configured_model(watched: Watched) -> None:
    assert all(watched.seen.answers)
    assert watched.connections == {watched.seen.address}


def test_no_key_comes_from_the_environment(watched: Watched) -> None:
    assert watched.seen.secrets_read == []
    assert watched.seen.credentials == [API_KEY]


def test_no_client_is_shared_by_all_tenants_of_the_process(watched: Watched) -> None:
    assert not watched.seen.has_default_client


def test_a_worker_loads_only_the_framework_that_its_instances_need(watched: Watched, framework: Framework) -> None:
    assert watched.seen.loaded_at_start == []
    assert watched.seen.loaded_at_end == [framework]


def test_a_framework_that_is_prepared_leaves_nothing_to_import_to_the_first_turn(watched: Watched) -> None:
    assert watched.seen.imported_by_turns == []
