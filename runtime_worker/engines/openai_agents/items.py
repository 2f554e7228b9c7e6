"""Between our messages and the SDK's items, both ways. The SDK speaks the vocabulary of OpenAI's Responses API."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from agents import TResponseInputItem
from agents.items import TResponseOutputItem
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.usage import Usage as SDKUsage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from openai.types.responses.response_usage import InputTokensDetails

from runtime_worker.models.base import MessageRole, ModelAnswer, ModelMessage, ModelToolCall, Usage

NOTHING = "nothing:"
"""Before the name of a call that must find nothing to call; no name that is offered to a model can begin so."""
_ROLES: dict[str, MessageRole] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def to_items(messages: Sequence[ModelMessage]) -> list[TResponseInputItem]:
    """A conversation as a run's input. Calls and their results are items of their own here, found by their ids: the SDK
    takes calls of one id for one call."""
    items: list[TResponseInputItem] = []
    for message in messages:
        if message.role == "tool":
            call_id = message.tool_call_id or ""
            items.append({"type": "function_call_output", "call_id": call_id, "output": message.content})
        elif message.content or not message.tool_calls:
            items.append({"role": message.role, "content": message.content})
        items += [_call_item(call) for call in message.tool_calls]
    return items


def _call_item(call: ModelToolCall) -> TResponseInputItem:
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def from_items(given: str | Sequence[TResponseInputItem]) -> list[ModelMessage]:
    """What a model is given, as the wire has it: an assistant's text and the calls beside it are one message again, and
    results stand in the order of their calls, whichever the SDK had first.

    Raises ValueError for what a chat completion has no place for, such as the hosted tools of the Responses API.
    """
    if isinstance(given, str):
        return [ModelMessage("user", given)]
    messages: list[ModelMessage] = []
    for item in given:
        message = _from_item(item)
        if message.tool_calls and messages and messages[-1].role == "assistant":
            last = messages.pop()
            message = ModelMessage("assistant", last.content, last.tool_calls + message.tool_calls)
        messages.append(message)
    return list(_in_order(messages))


def output_items(answer: ModelAnswer, unreachable: Collection[str] = ()) -> list[TResponseOutputItem]:
    """A model's whole answer as the SDK sees it. The id is the one that the SDK never takes for a stored item's.

    Calls with `unreachable` ids have a name that the SDK finds neither a tool nor a handoff of.
    """
    output: list[TResponseOutputItem] = []
    if answer.content or not answer.tool_calls:
        text = ResponseOutputText(type="output_text", text=answer.content, annotations=[])
        status: Any = "incomplete" if answer.finish_reason in ("length", "content_filter") else "completed"
        message = ResponseOutputMessage(
            id=FAKE_RESPONSES_ID, type="message", role="assistant", status=status, content=[text]
        )
        output.append(message)
    for call in answer.tool_calls:
        name = NOTHING + call.name if call.id in unreachable else call.name
        output.append(
            ResponseFunctionToolCall(type="function_call", call_id=call.id, name=name, arguments=call.arguments)
        )
    return output


def sdk_usage(usage: Usage) -> SDKUsage:
    """One call's tokens in the SDK's count, which has no word for an estimate: ours is the one that is billed."""
    return SDKUsage(
        requests=1,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens, cache_write_tokens=0),
    )


def _in_order(messages: Sequence[ModelMessage]) -> Iterator[ModelMessage]:
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        yield message
        places = {call.id: place for place, call in enumerate(message.tool_calls)}
        end = position
        while end < len(messages) and messages[end].role == "tool":
            end += 1
        yield from sorted(messages[position:end], key=lambda result: places.get(result.tool_call_id or "", 0))
        position = end


def _from_item(item: Any) -> ModelMessage:
    match item:
        case {"type": "function_call", "call_id": str(call_id), "name": str(name), "arguments": str(arguments)}:
            return ModelMessage("assistant", "", (ModelToolCall(call_id, name.removeprefix(NOTHING), arguments),))
        case {"type": "function_call_output", "call_id": str(call_id), "output": output}:
            return ModelMessage("tool", _text(output), tool_call_id=call_id)
        case {"role": role, "content": content} if role in _ROLES:
            return ModelMessage(_ROLES[role], _text(content))
        case _:
            kind = item.get("type") if isinstance(item, dict) else type(item).__name__
            raise ValueError(f"an item of type {kind!r} has no place in a chat completion")


def _text(content: Any) -> str:
    """The text of an item, given as a string or in parts."""
    if isinstance(content, str):
        return content
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise ValueError("an item that is not text has no place in a chat completion")
    return "".join(part["text"] for part in content)
