"""The OpenAPI document says what the routes do: generated requests get answers that it allows, and never a bare 500."""

import asyncio
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from schemathesis.checks import CheckFunction
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300)]

EXAMPLES = 8
ENDS_OWN_SESSION = ["/api/auth/logout", "/api/auth/sessions", "/api/auth/refresh"]
"""Generated calls of these would log the test out; integration tests call them."""
CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class Caller(msgspec.Struct):
    """A session, and ids that exist: generated ones alone would only ever meet a 404."""

    token: str
    known_ids: dict[str, str]


@pytest.fixture
async def caller(tenant: Tenant) -> Caller:
    me = await tenant.client.made("GET", "/api/me")
    known_ids = {
        "org_id": tenant.org_id,
        "instance_id": tenant.instance_id,
        "config_id": tenant.llm_config_id,
        "plugin_id": tenant.plugin_id,
        "pid": tenant.pid,
        "user_id": me["user_id"],
    }
    return Caller(tenant.client.token, known_ids)


async def test_generated_requests_get_the_answers_the_document_promises(stack: RunningStack, caller: Caller) -> None:
    def explore() -> tuple[int, dict[str, str]]:
        schema = schemathesis.openapi.from_url(f"{stack.url}/openapi.json").exclude(path=ENDS_OWN_SESSION)
        operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
        problems = {operation.label: _problem(operation, caller) for operation in operations}
        return len(operations), {label: problem for label, problem in problems.items() if problem}

    # Schemathesis is synchronous, and the tenant's model answers from this loop.
    count, broken = await asyncio.to_thread(explore)

    assert count > 50
    assert not broken, "\n\n".join(f"{label}\n{problem}" for label, problem in broken.items())


def _problem(operation: Any, caller: Caller) -> str | None:
    """What is wrong with the answers of one operation, or None."""
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
        case.call_and_validate(headers={"Authorization": f"Bearer {caller.token}"}, checks=CHECKS)

    try:
        call()
    except (FailureGroup, Failure) as failure:
        return "\n".join(str(one) for one in getattr(failure, "exceptions", [failure]))
    return None
