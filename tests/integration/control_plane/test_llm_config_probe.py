"""`POST …/llm-configs/{id}/test`: one real call."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from control_plane.llm_configs.probe import ModelProbe, ProbeRequest
from shared.frameworks import Provider
from tests.integration.control_plane.callers import Tenant, World
from tests.integration.control_plane.providers import Providers
from tests.integration.control_plane.test_llm_configs import API_KEY, BODY


@pytest.fixture
async def providers() -> AsyncIterator[Providers]:
    async with Providers() as providers:
        yield providers


async def probe(tenant: Tenant, **changes: Any) -> dict[str, Any]:
    created = await tenant.admin.post(f"{tenant.path}/llm-configs", {**BODY, **changes})
    assert created.status_code == 201, created.text
    answer = await tenant.admin.post(f"{tenant.path}/llm-configs/{created.json()['id']}/test")
    assert answer.status_code == 200, answer.text
    assert API_KEY not in answer.text
    result: dict[str, Any] = answer.json()
    return result


@pytest.mark.parametrize(
    ("provider", "answer", "path", "header"),
    [
        ("openai", {"choices": []}, "/v1/chat/completions", ("authorization", f"Bearer {API_KEY}")),
        ("azure", {"choices": []}, "/v1/chat/completions", ("api-key", API_KEY)),
        ("groq", {"choices": []}, "/v1/chat/completions", ("authorization", f"Bearer {API_KEY}")),
        ("litellm", {"choices": []}, "/v1/chat/completions", ("authorization", f"Bearer {API_KEY}")),
        ("tensorzero", {"choices": []}, "/v1/chat/completions", ("authorization", f"Bearer {API_KEY}")),
        ("bifrost", {"choices": []}, "/v1/chat/completions", ("authorization", f"Bearer {API_KEY}")),
        ("anthropic", {"content": []}, "/v1/messages", ("x-api-key", API_KEY)),
        ("claude", {"content": []}, "/v1/messages", ("x-api-key", API_KEY)),
        ("google", {"candidates": []}, "/v1/models/gpt-test:generateContent", ("x-goog-api-key", API_KEY)),
        ("gemini", {"candidates": []}, "/v1/models/gpt-test:generateContent", ("x-goog-api-key", API_KEY)),
    ],
)
async def test_each_provider_is_called_in_its_own_words(
    world: World, providers: Providers, provider: str, answer: Any, path: str, header: tuple[str, str]
) -> None:
    providers.body = answer

    result = await probe(await world.tenant(), provider=provider, base_url=f"{providers.url}/v1/")

    assert (result["ok"], result["code"]) == (True, None)
    assert result["latency_ms"] > 0
    ((called, headers, _),) = providers.requests
    assert called == path
    assert headers[header[0]] == header[1]


async def test_a_test_call_goes_where_the_workers_calls_will_go(world: World, providers: Providers) -> None:
    options = {"api_version": "2025-01-01-preview", "max_tokens_parameter": "max_tokens", "headers": {"X-Team": "blue"}}

    await probe(await world.tenant(), provider="azure", base_url=providers.url, additional_config=options)

    ((called, headers, body),) = providers.requests
    assert called == "/openai/deployments/gpt-test/chat/completions"
    assert (headers["x-team"], body["max_tokens"]) == ("blue", 16)


FAILURES: list[tuple[int, Any, str]] = [
    (401, {"error": "bad key"}, "LL-0002"),
    (403, {"error": "bad key"}, "LL-0002"),
    (400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}}, "LL-0002"),
    (429, {"error": "slow down"}, "LL-0003"),
    (404, {"error": "no such model"}, "LL-0004"),
    (302, {"error": "elsewhere"}, "LL-0004"),
    (500, {"error": "secret trace"}, "LL-0005"),
    (200, "<html>welcome</html>", "LL-0006"),
    (200, {"hello": "secret trace"}, "LL-0006"),
]


async def test_what_goes_wrong_is_told_without_the_providers_words(world: World, providers: Providers) -> None:
    tenant = await world.tenant()

    for number, (status, body, code) in enumerate(FAILURES):
        providers.status, providers.body = status, body
        result = await probe(tenant, name=f"config {number}", base_url=providers.url)

        assert (result["ok"], result["code"]) == (False, code), (status, body)
        assert "secret trace" not in result["message"]


async def test_a_provider_that_is_not_there_is_told(world: World, providers: Providers) -> None:
    await providers.__aexit__()

    assert (await probe(await world.tenant(), base_url=providers.url))["code"] == "LL-0005"


async def test_a_config_without_a_model_has_nothing_to_call(world: World) -> None:
    tenant = await world.tenant()
    created = await tenant.admin.post(f"{tenant.path}/llm-configs", {**BODY, "model_name": None})

    refused = await tenant.admin.post(f"{tenant.path}/llm-configs/{created.json()['id']}/test")

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "model_name"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "0x7f000001"])
async def test_a_name_that_leads_to_a_private_address_is_never_called(providers: Providers, host: str) -> None:
    strict = ModelProbe(allow_private=False)
    port = providers.url.rsplit(":", 1)[1]

    result = await strict.run(ProbeRequest(Provider.OPENAI, "m", f"https://{host}:{port}/v1", API_KEY))
    await strict.close()

    assert (result.ok, result.code) in ((False, "LL-0005"), (False, "LL-0008"))
    assert providers.requests == []


async def test_a_cookie_given_to_one_organization_is_not_sent_for_another(world: World, providers: Providers) -> None:
    providers.cookie = "trace=of-the-first; Path=/"
    base_url = providers.url.replace("127.0.0.1", "localhost")

    for _ in range(2):
        assert (await probe(await world.tenant(), base_url=base_url))["ok"]

    assert [headers.get("cookie") for _, headers, _ in providers.requests] == [None, None]
