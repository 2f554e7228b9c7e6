"""The path of a newcomer and of an operator, over the one port, against real servers and two workers."""

import asyncio
import os
import signal

import pytest
from openai import AsyncOpenAI

from tests.e2e.client import Answer, Client, Stream
from tests.e2e.outage import pids
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

STREAMS = 20
SETTLED_SECONDS = 30
QUESTION = "What is 12.5 plus 30?"


async def test_a_chat_calls_the_uploaded_tool_and_streams_the_answer(tenant: Tenant) -> None:
    run = await tenant.client.stream(tenant.stream_path, QUESTION)

    assert run.is_completed, run
    (start,), (end,) = run.of("tool_start"), run.of("tool_end")
    assert start["tool"] == end["tool"] == f"{tenant.pid}.add"
    assert sorted(start["args"].values()) == [12.5, 30]
    assert "42.5" in str(end["result"])
    assert "42.5" in run.text
    assert run.names[0] == run.names[-1] == "metadata"
    assert len(run.of("agent_start")) == len(run.of("agent_end")) > 0
    assert run.last["usage"]["output_tokens"] > 0
    assert run.last["saved"] is True
    assert [event.seq for event in run.events] == list(range(1, len(run.events) + 1))


async def test_the_second_turn_knows_the_first(tenant: Tenant) -> None:
    first = await tenant.client.stream(tenant.stream_path, QUESTION)
    conversation_id = first.first["conversation_id"]
    second = await tenant.client.stream(tenant.stream_path, "And 1 plus 2?", conversation_id=conversation_id)
    assert second.is_completed
    assert second.first["conversation_id"] == conversation_id

    path = f"{tenant.org_path}/conversations/{conversation_id}/messages"
    messages = (await tenant.client.made("GET", path))["items"]
    shown = [(m["role"], m["content"]) for m in messages if m["role"] in ("user", "assistant") and m["content"]]
    assert shown == [
        ("user", QUESTION),
        ("assistant", first.text),
        ("user", "And 1 plus 2?"),
        ("assistant", second.text),
    ]


async def test_an_openai_client_streams_through_the_gateway_and_goes_on_by_the_conversations_id(tenant: Tenant) -> None:
    async with AsyncOpenAI(base_url=f"{tenant.client.base_url}{tenant.path}/v1", api_key=tenant.client.token) as client:
        assert [model.id async for model in client.models.list()] == [tenant.instance_id]
        stream = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        conversation_id = stream.response.headers["x-conversation-id"]
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
        assert "42.5" in text
        await client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "And 1 plus 2?"}],
            metadata={"conversation_id": conversation_id},
        )
    path = f"{tenant.org_path}/conversations/{conversation_id}/messages"
    messages = (await tenant.client.made("GET", path))["items"]
    assert [m["content"] for m in messages[:3]] == [QUESTION, text, "And 1 plus 2?"]


async def test_a_new_configuration_is_served_while_twenty_streams_run_and_none_fails(tenant: Tenant) -> None:
    before = (await tenant.get())["config_hash"]
    running = [asyncio.create_task(tenant.client.stream(tenant.stream_path, QUESTION)) for _ in range(STREAMS)]
    await asyncio.sleep(0.2)

    config = {"default_llm_config_id": tenant.llm_config_id, "mode_config": {"max_tool_rounds": 2}}
    await tenant.client.made("PATCH", f"{tenant.path}/config", json={"config": config})
    await tenant.until_ready()
    after = (await tenant.get())["config_hash"]
    newer = await asyncio.gather(*(tenant.client.stream(tenant.stream_path, QUESTION) for _ in range(STREAMS)))

    assert after != before
    older: list[Stream] = await asyncio.gather(*running)
    assert all(run.is_completed for run in (*older, *newer))
    assert {run.first["config_hash"] for run in newer} == {after}
    assert {run.first["config_hash"] for run in older} <= {before, after}


async def test_an_unloaded_orchestrator_answers_503_until_it_is_loaded_again(tenant: Tenant) -> None:
    assert (await tenant.client.call("POST", f"{tenant.path}/unload")).status == 202
    refused = await _answered_with(tenant, 503)
    assert refused.body["code"] == "OR-0001"
    assert "Retry-After" in refused.headers

    await tenant.load()
    assert (await tenant.client.stream(tenant.stream_path, QUESTION)).is_completed


async def test_a_disabled_credential_is_used_no_longer(tenant: Tenant) -> None:
    config_path = f"{tenant.org_path}/llm-configs/{tenant.llm_config_id}"
    assert (await tenant.client.stream(tenant.stream_path, QUESTION)).is_completed

    await tenant.client.made("PATCH", config_path, json={"is_enabled": False})
    refused = await _answered_with(tenant, 503)
    assert refused.body["code"] == "OR-0010"

    await tenant.client.made("PATCH", config_path, json={"is_enabled": True})
    assert (await _stream_in_the_end(tenant)).is_completed


async def test_the_chat_goes_on_when_one_of_two_workers_is_killed(stack: RunningStack, tenant: Tenant) -> None:
    serving = {slug: pid for slug, pid in (await pids(stack)).items() if slug.startswith("worker")}
    assert len(serving) == 2
    for victim in serving.values():
        os.kill(victim, signal.SIGKILL)
        run = await _stream_in_the_end(tenant)
        assert run.is_completed
        await _until_all_workers_live(stack, len(serving))


async def test_a_deleted_orchestrator_is_gone(tenant: Tenant, model_url: str) -> None:
    deleted = await tenant.client.call("DELETE", tenant.path)
    assert deleted.status == 204, deleted
    # The admin is both: a member of the organization and sys_admin, so the stricter of the two deletions applies.
    assert (await tenant.client.call("GET", tenant.path)).status in (404, 410)
    await _answered_with(tenant, 404, 410)


async def test_another_organization_sees_nothing_of_it(tenant: Tenant, admin: Client, model_url: str) -> None:
    run = await tenant.client.stream(tenant.stream_path, QUESTION)
    stranger = await _member_of_another_organization(admin, tenant)

    paths = [
        tenant.path,
        f"{tenant.path}/status",
        f"{tenant.org_path}/llm-configs/{tenant.llm_config_id}",
        f"{tenant.org_path}/plugins/{tenant.plugin_id}",
        f"{tenant.org_path}/conversations/{run.first['conversation_id']}",
        f"{tenant.org_path}/conversations/{run.first['conversation_id']}/messages",
        f"{tenant.org_path}/runs/{run.first['run_id']}",
    ]
    answers = [await stranger.call("GET", path) for path in paths]
    answers.append(await stranger.call("POST", tenant.stream_path, json={"message": "hi"}))
    assert [answer.status for answer in answers] == [404] * len(answers)


async def _answered_with(tenant: Tenant, *statuses: int) -> Answer:
    """The first answer with one of these statuses: a change reaches every worker in a moment, not at once."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while True:
            answer = await tenant.client.call("POST", tenant.stream_path, json={"message": QUESTION})
            if answer.status in statuses:
                return answer
            await asyncio.sleep(0.05)


async def _stream_in_the_end(tenant: Tenant) -> Stream:
    """A stream that completes. One that the dying worker had taken ends with an error and may be asked again."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while True:
            run = await tenant.client.stream(tenant.stream_path, QUESTION)
            if run.is_completed:
                return run
            assert run.status in (200, 502, 503), run
            await asyncio.sleep(0.1)


async def _until_all_workers_live(stack: RunningStack, count: int) -> None:
    async with asyncio.timeout(SETTLED_SECONDS):
        while True:
            processes = await asyncio.to_thread(stack.processes)
            workers = [process for process in processes if process.slug.startswith("worker")]
            if len(workers) == count and all(worker.health == "ready" for worker in workers):
                return
            await asyncio.sleep(0.2)


async def _member_of_another_organization(admin: Client, tenant: Tenant) -> Client:
    name = f"stranger-{tenant.org_id[-8:]}"
    other = await admin.made("POST", "/api/admin/orgs", json={"name": name})
    user = {"username": name, "email": f"{name}@example.com", "password": "made-up-Passw0rd-1"}
    await admin.made("POST", f"/api/admin/orgs/{other['org_id']}/users", json=user)
    stranger = Client(admin.base_url, tenant.client.session)
    await stranger.login(name, user["password"])
    return stranger
