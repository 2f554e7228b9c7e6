"""The OpenAPI document says what the routes do: generated requests get answers that it allows, and never a bare 500."""

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from schemathesis import CheckContext, Response
from schemathesis.checks import CheckFunction
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.e2e.client import Client
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant
from tests.isolation.canaries import ANSWERS, WATCH

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300)]

EXAMPLES = 8
ENDS_OWN_SESSION = ["/api/auth/logout", "/api/auth/sessions", "/api/auth/refresh"]
"""Generated calls of these would log the test out; integration tests call them."""


@schemathesis.check
def no_unexplained_server_error(ctx: CheckContext, response: Response, case: schemathesis.Case[Any]) -> None:
    """A 503 for something that is not there right now is an answer, with a code; a 500 never is."""
    if response.status_code >= 500:
        assert response.status_code != 500, response.text
        if "/v1/" in case.path:
            assert response.json()["error"]["code"], response.text
            return
        assert response.headers["content-type"] == ["application/problem+json"], response.text
        assert response.json()["code"], response.text


CHECKS: list[CheckFunction] = [
    no_unexplained_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class Caller(msgspec.Struct):
    """A session, and ids that exist: generated ones alone would only ever meet a 404."""

    token: str
    user_id: str
    known_ids: dict[str, str]


class Outcome(msgspec.Struct):
    statuses: list[int]
    problem: str | None = None


@pytest.fixture
async def caller(stack: RunningStack, http: aiohttp.ClientSession, model_url: str) -> Caller:
    """An admin of its own: generated calls may rename, demote or lock out whom they meet."""
    made = stack.run("bootstrap", "--add-sys-admin", "--username", "fuzzer", "--email", "fuzzer@example.com", "--json")
    client = Client(stack.url, http)
    client.token = json.loads(made.stdout)["token"]
    tenant = await Tenant.create(client, model_url)
    # Somebody else than the caller: calls that change a password or end sessions would end the caller's.
    person = {"username": "fuzzed", "email": "fuzzed@example.com", "password": "made-up-Passw0rd-2"}
    member = await client.made("POST", f"/api/admin/orgs/{tenant.org_id}/users", json=person)
    role = {"name": "Fuzzed", "scope": "organization", "permissions": ["cadence:org:read"]}
    key = {"name": "fuzzed", "scopes": ["cadence:org:read"]}
    model = {"provider": "openai", "model_name": "gpt-fuzzed"}
    talk = await client.made("POST", f"{tenant.path}/completion/chat", json={"message": "hello"})
    point = {"name": "Fuzzed", "instance_id": tenant.instance_id}
    known_ids = {
        "central_id": (await client.made("POST", f"{tenant.org_path}/central-points", json=point))["central_id"],
        "role_id": (await client.made("POST", "/api/admin/roles", json=role))["id"],
        "key_id": (await client.made("POST", "/api/me/api-keys", json=key))["api_key"]["id"],
        "model_id": (await client.made("POST", "/api/admin/providers/models", json=model))["id"],
        "conversation_id": talk["conversation_id"],
        "run_id": talk["run_id"],
        "framework": "langgraph",
        "mode": "supervisor",
        "provider": "openai",
        "key": "run_timeout",
        "name": "premium",
        "org_id": tenant.org_id,
        "instance_id": tenant.instance_id,
        "config_id": tenant.llm_config_id,
        "plugin_id": tenant.plugin_id,
        "pid": tenant.pid,
        "user_id": member["user_id"],
    }
    return Caller(tenant.client.token, tenant.client.user_id, known_ids)


async def test_generated_requests_get_the_answers_the_document_promises(stack: RunningStack, caller: Caller) -> None:
    def explore() -> dict[str, Outcome]:
        schema = schemathesis.openapi.from_url(f"{stack.url}/openapi.json").exclude(path=ENDS_OWN_SESSION)
        operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
        return {operation.label: _called(operation, caller) for operation in operations}

    # Schemathesis is synchronous, and the tenant's model answers from this loop.
    outcomes = await asyncio.to_thread(explore)

    broken = {label: outcome.problem for label, outcome in outcomes.items() if outcome.problem}
    assert not broken, "\n\n".join(f"{label}\n{problem}" for label, problem in broken.items())
    # Refusals alone would prove little: most operations were also answered with what was asked for. Not deletions: they
    # get made-up ids only, since what they delete the others could not be asked about any more.
    could = {label: outcome for label, outcome in outcomes.items() if not label.startswith("DELETE ")}
    succeeded = [label for label, outcome in could.items() if any(status < 300 for status in outcome.statuses)]
    assert len(succeeded) > len(could) / 2, sorted(set(could) - set(succeeded))


def _called(operation: Any, caller: Caller) -> Outcome:
    """Call one operation with generated requests; what is wrong with its answers, if anything."""
    statuses: list[int] = []
    is_deletion = operation.method.upper() == "DELETE"

    @given(case=operation.as_strategy(), uses_known_ids=booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def call(case: schemathesis.Case[Any], uses_known_ids: bool) -> None:
        if uses_known_ids and not is_deletion:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = caller.known_ids.get(name, case.path_parameters[name])
            if case.path.endswith("/v1/chat/completions"):
                # Of its many fields most ask for what is refused, so that a generated body hardly ever passes.
                case.body = {"model": "any", "messages": [{"role": "user", "content": "hello"}]}
            elif isinstance(case.body, dict):
                case.body |= {name: caller.known_ids[name] for name in case.body.keys() & {"instance_id"}}
        response = case.call_and_validate(headers={"Authorization": f"Bearer {caller.token}"}, checks=CHECKS)
        statuses.append(response.status_code)
        WATCH.count(ANSWERS)
        WATCH.hear(caller.user_id, case.formatted_path, str(response.headers).encode() + response.content)

    try:
        call()
    except (FailureGroup, Failure) as failure:
        problems = getattr(failure, "exceptions", [failure])
        return Outcome(statuses, "\n".join(str(problem) for problem in problems))
    return Outcome(statuses)
