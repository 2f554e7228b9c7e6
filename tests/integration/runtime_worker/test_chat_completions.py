"""An orchestrator behind the official OpenAI client."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from runtime_worker.engines.base import EventSink, RunRequest
from shared.errors import ModelCredentialRefused, ModelUnavailable
from shared.frameworks import Mode
from shared.ids import new_id
from shared.security.api_keys import read_key
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.test_api_keys import publish
from tests.integration.runtime_worker.test_kept_for_the_next_turn import published
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually

HI: list[Any] = [{"role": "user", "content": "hi"}]


def base_url(caller: Caller, instance: OrchestratorSnapshot) -> str:
    return f"{caller.url}/orchestrators/{instance.instance_id}/v1"


@pytest.fixture
async def client(member: Caller, instance: OrchestratorSnapshot) -> AsyncIterator[AsyncOpenAI]:
    """One that tries nothing again, with a session's token for its key."""
    token = member.headers["Authorization"].removeprefix("Bearer ")
    async with AsyncOpenAI(base_url=base_url(member, instance), api_key=token, max_retries=0) as client:
        yield client


async def test_a_completion_has_the_answer_its_usage_and_what_to_go_on_with(
    client: AsyncOpenAI, member: Caller, instance: OrchestratorSnapshot
) -> None:
    completion = await client.chat.completions.create(model="any", messages=HI, temperature=0.2, max_tokens=50)

    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "You said: hi", "stop")
    assert completion.object == "chat.completion"
    assert completion.model == str(instance.instance_id)
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 5, 15)
    names = completion.to_dict()["metadata"]
    assert isinstance(names, dict)
    status, run = await member.call("GET", f"/runs/{names['run_id']}")
    assert (status, run["status"], run["conversation_id"]) == (200, "completed", names["conversation_id"])


async def test_a_program_that_cannot_await_uses_it_with_an_api_key(
    member: Caller, instance: OrchestratorSnapshot, control_plane: FakeControlPlane
) -> None:
    key = publish(control_plane, member.user_id, member.org_id)

    def talk() -> tuple[str | None, list[str]]:
        with OpenAI(base_url=base_url(member, instance), api_key=key) as client:
            answer = client.chat.completions.create(model="any", messages=HI)
            return answer.choices[0].message.content, [model.id for model in client.models.list()]

    assert await asyncio.to_thread(talk) == ("You said: hi", [str(instance.instance_id)])


async def streamed(client: AsyncOpenAI, **kwargs: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(model="any", messages=HI, stream=True, **kwargs)
    return [chunk async for chunk in stream]


async def test_a_stream_begins_with_the_role_and_ends_with_the_reason(client: AsyncOpenAI) -> None:
    chunks = await streamed(client)

    assert [(c.choices[0].delta.role, c.choices[0].delta.content, c.choices[0].finish_reason) for c in chunks] == [
        ("assistant", "", None),
        (None, "You said: ", None),
        (None, "hi", None),
        (None, None, "stop"),
    ]
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.usage for chunk in chunks} == {None}


async def test_a_stream_tells_its_usage_when_it_is_asked_for(client: AsyncOpenAI) -> None:
    *chunks, last = await streamed(client, stream_options={"include_usage": True})
    assert (last.choices, last.usage and last.usage.total_tokens) == ([], 15)
    assert {chunk.usage for chunk in chunks} == {None}


async def test_what_was_said_before_comes_from_the_request_alone(client: AsyncOpenAI, builder: ScriptedBuilder) -> None:
    talk: list[Any] = [
        {"role": "system", "content": "Speak like a pirate."},
        {"role": "user", "content": [{"type": "text", "text": "one"}]},
        {"role": "assistant", "content": "first answer"},
        {"role": "user", "content": "two"},
    ]
    await client.chat.completions.create(model="any", messages=talk)
    await client.chat.completions.create(model="any", messages=HI)

    with_history, alone = builder.requests
    assert [(m.role, m.content) for m in with_history.history] == [
        # Not above the orchestrator's own prompts.
        ("user", "<caller_instructions>\nSpeak like a pirate.\n</caller_instructions>"),
        ("user", "one"),
        ("assistant", "first answer"),
    ]
    assert with_history.message == "two"
    assert alone.history == ()


@pytest.mark.parametrize("place", ["metadata", "header"])
async def test_a_conversation_is_gone_on_with_by_its_id(
    client: AsyncOpenAI, builder: ScriptedBuilder, place: str
) -> None:
    begun: list[Any] = [{"role": "assistant", "content": "Welcome."}, *HI]
    first = await client.chat.completions.with_raw_response.create(model="any", messages=begun)
    conversation_id = first.headers["x-conversation-id"]
    named: dict[str, Any] = (
        {"metadata": {"conversation_id": conversation_id}}
        if place == "metadata"
        else {"extra_headers": {"X-Conversation-Id": conversation_id}}
    )
    stream = await client.chat.completions.create(
        model="any", messages=[*begun, {"role": "user", "content": "and now?"}], stream=True, **named
    )
    assert stream.response.headers["x-conversation-id"] == conversation_id
    assert [chunk async for chunk in stream]

    told = [(m.role, m.content) for m in builder.requests[1].history]
    # Once each: of the messages in the request only the last is new.
    assert told == [("assistant", "Welcome."), ("user", "hi"), ("assistant", "You said: hi")]
    assert builder.requests[1].message == "and now?"


async def test_somebody_elses_conversation_is_not_gone_on_with(
    client: AsyncOpenAI, worker: RunningWorker, instance: OrchestratorSnapshot
) -> None:
    colleague = await worker.sign_in(instance.org_id)
    _, theirs = await colleague.chat(instance.instance_id, "secret plans")
    for conversation_id in (theirs["conversation_id"], str(new_id())):
        with pytest.raises(openai.NotFoundError) as refused:
            await client.chat.completions.create(
                model="any", messages=HI, metadata={"conversation_id": conversation_id}
            )
        assert refused.value.code == "RE-0001"


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"stop": ["END"]}, "stop"),
        ({"messages": [{"role": "assistant", "content": "hm"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "4", "tool_call_id": "c"}, *HI]}, "messages[0]"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.test"}}]}
                ]
            },
            "messages[0].content",
        ),
        ({"messages": []}, "messages"),
        ({"extra_body": {"no_such": 1}}, "no_such"),
        ({"metadata": {"conversation_id": "x"}}, "metadata.conversation_id"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_in_words(
    client: AsyncOpenAI, builder: ScriptedBuilder, parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**{"model": "any", "messages": HI, **parameters})
    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")
    assert refused.value.code == "VA-0002"
    assert builder.requests == []


async def test_the_client_raises_what_it_raises_for_openai(
    client: AsyncOpenAI, worker: RunningWorker, instance: OrchestratorSnapshot, control_plane: FakeControlPlane
) -> None:
    async def refusal(other: AsyncOpenAI) -> type[Exception]:
        with pytest.raises(openai.APIStatusError) as refused:
            await other.chat.completions.create(model="any", messages=HI)
        assert set(refused.value.response.json()["error"]) == {"message", "type", "param", "code"}
        return type(refused.value)

    small = publish(control_plane, new_id(), instance.org_id, ())
    presented = read_key(small)
    assert presented is not None
    control_plane.admit(presented.user_id, instance.org_id)
    assert await refusal(client.with_options(api_key="nonsense")) is openai.AuthenticationError
    assert await refusal(client.with_options(api_key=small)) is openai.PermissionDeniedError
    unknown = str(client.base_url).replace(str(instance.instance_id), str(new_id()))
    assert await refusal(client.with_options(base_url=unknown)) is openai.NotFoundError
    control_plane.put(instance, status="suspended")
    worker.worker.reconciler.poke()
    known = worker.worker.pool._index.find
    await eventually(lambda: (entry := known(instance.instance_id)) is not None and not entry.may_serve)
    assert await refusal(client) is openai.InternalServerError


async def test_a_run_that_fails_says_so_and_whether_to_try_again(client: AsyncOpenAI, builder: ScriptedBuilder) -> None:
    for error, should_retry in ((ModelUnavailable("the model is away"), "true"), (ModelCredentialRefused(), "false")):

        async def fail(_: RunRequest, __: EventSink, error: Exception = error) -> None:
            raise error

        builder.script = fail
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(model="any", messages=HI)
        assert failed.value.status_code == 502
        assert failed.value.response.headers["x-should-retry"] == should_retry


async def test_a_stream_that_fails_in_the_middle_raises(client: AsyncOpenAI, builder: ScriptedBuilder) -> None:
    async def fail(_: RunRequest, sink: EventSink) -> None:
        await say(sink, "half of")
        raise ModelUnavailable("the model is away")

    builder.script = fail
    stream = aiter(await client.chat.completions.create(model="any", messages=HI, stream=True))
    assert [(await anext(stream)).choices[0].delta.content for _ in range(2)] == ["", "half of"]
    with pytest.raises(openai.APIError, match="the model is away") as failed:
        await anext(stream)
    assert failed.value.code == "LL-0005"


async def test_the_client_tries_again_by_itself_while_the_worker_is_full(
    client: AsyncOpenAI, worker: RunningWorker, builder: ScriptedBuilder
) -> None:
    worker.worker.table.capacity = 0

    async def make_room() -> None:
        await asyncio.sleep(0.3)
        worker.worker.table.capacity = 10

    with pytest.raises(openai.InternalServerError) as full:
        await client.chat.completions.create(model="any", messages=HI)
    assert (full.value.status_code, int(full.value.response.headers["retry-after"])) == (503, 2)
    room = asyncio.create_task(make_room())
    patient = client.with_options(max_retries=3)
    answer = await patient.chat.completions.create(model="any", messages=HI, extra_headers={"Idempotency-Key": "k-1"})
    again = await patient.chat.completions.create(model="any", messages=HI, extra_headers={"Idempotency-Key": "k-1"})
    await room

    assert (answer.id, answer.choices[0].message.content) == (again.id, "You said: hi")
    retold = await streamed_again(patient, "k-2")
    assert retold[0] == retold[1]
    assert len(builder.requests) == 2


async def streamed_again(client: AsyncOpenAI, key: str) -> list[list[ChatCompletionChunk]]:
    usage = {"include_usage": True}
    return [await streamed(client, stream_options=usage, extra_headers={"Idempotency-Key": key}) for _ in range(2)]


async def test_closing_a_stream_cancels_its_run(client: AsyncOpenAI, member: Caller, builder: ScriptedBuilder) -> None:
    forever = asyncio.Event()

    async def hang(_: RunRequest, sink: EventSink) -> None:
        await say(sink, "one moment")
        await forever.wait()

    builder.script = hang
    stream = await client.chat.completions.create(model="any", messages=HI, stream=True)
    run_id = stream.response.headers["x-run-id"]
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()

    async def is_cancelled() -> bool:
        _, run = await member.call("GET", f"/runs/{run_id}")
        return bool(run["status"] == "cancelled")

    await eventually(is_cancelled)


async def test_a_run_goes_on_for_whoever_means_to_come_back(
    client: AsyncOpenAI, member: Caller, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()

    async def wait(_: RunRequest, sink: EventSink) -> None:
        await say(sink, "one ")
        await go_on.wait()
        await say(sink, "two")

    builder.script = wait
    key = {"Idempotency-Key": "come-back"}
    stream = await client.chat.completions.create(model="any", messages=HI, stream=True, extra_headers=key)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    go_on.set()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in await streamed(client, extra_headers=key))
    assert text == "one two"
    assert len(builder.requests) == 1


async def test_a_grounded_orchestrator_gets_its_resource_from_the_metadata(
    worker: RunningWorker, control_plane: FakeControlPlane, builder: ScriptedBuilder
) -> None:
    grounded = published(control_plane, Mode.GROUNDED)
    member = await worker.sign_in(grounded.org_id)
    token = member.headers["Authorization"].removeprefix("Bearer ")
    async with AsyncOpenAI(base_url=base_url(member, grounded), api_key=token, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="any", messages=HI)
        assert refused.value.param == "resource_id"
        await client.chat.completions.create(model="any", messages=HI, metadata={"resource_id": "ticket-7"})
    assert builder.requests[-1].resource_id == "ticket-7"
