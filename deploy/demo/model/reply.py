"""The whole decision for one request: text, tool calls, or an object."""

import hashlib
import json
import re
from collections import Counter

import msgspec

from deploy.demo.model import answers
from deploy.demo.model.decisions import Toolbox, closest, is_unreadable, signal
from deploy.demo.model.routing import route_of
from deploy.demo.model.structured import example
from deploy.demo.model.wire import ChatRequest, Conversation, Function, FunctionCall, ToolCall, view
from deploy.demo.model.words import token_count

_ASKS_BACK = re.compile(r"clarif|ask (?:one|a|the user).{0,40}question", re.I)
_SUMMARIZES = re.compile(r"\bsummari[sz]e the conversation|\bsummary of the conversation", re.I)
_SUGGESTS = re.compile(r"follow[- ]up question|suggest (?:a|one)\b", re.I)
_APOLOGIZES = re.compile(r"something went wrong", re.I)
_REFUSES = re.compile(r"say (?:politely|honestly).{0,60}\bcannot", re.I | re.S)
_RESOURCE = re.compile(r"<resource>\s*(.*?)\s*</resource>", re.S)
_SINGLE_WORD = re.compile(r"reply with the single word (\w+)", re.I)
_DATA = re.compile(r"<([\w-]+)[^<>]*>.*?</\1>", re.S)
"""What stands between tags is what somebody else wrote: never an instruction."""


class Reply(msgspec.Struct, frozen=True):
    """One assistant message with the token counts of the call."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def reply_to(request: ChatRequest) -> Reply:
    """Decide. The same request always gets the same reply, ids included."""
    conversation = view(request.messages)
    offered = [tool.function for tool in request.tools or ()]
    calls = _calls(request, conversation, offered)
    content = "" if calls else _content(request, conversation)
    finish_reason = "tool_calls" if calls else "stop"
    if request.token_limit and not calls:
        pieces = pieces_of(content)
        if len(pieces) > request.token_limit:
            content, finish_reason = "".join(pieces[: request.token_limit]), "length"
    return Reply(
        content=content,
        tool_calls=tuple(ToolCall(_call_id(request, i, call), call) for i, call in enumerate(calls)),
        finish_reason=finish_reason,
        prompt_tokens=_prompt_tokens(request),
        completion_tokens=token_count(content) + sum(token_count(c.name + c.arguments) for c in calls),
    )


def pieces_of(content: str) -> list[str]:
    """The fragments that a stream sends: words with the space after them."""
    return re.findall(r"\S+\s*|\s+", content)


def _calls(request: ChatRequest, conversation: Conversation, offered: list[Function]) -> list[FunctionCall]:
    choice = request.tool_choice
    if not offered or choice == "none":
        return []
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        return [signal(f, conversation.question) for f in offered if f.name == name]
    toolbox = Toolbox(offered)
    plan = toolbox.plan(conversation)
    # Each call is made once per turn: what failed would only fail again.
    left = _without(list(plan.calls), conversation.turn_calls)
    if left:
        return left if request.parallel_tool_calls else left[:1]
    if conversation.results:
        return []
    if not conversation.was_transferred and (colleague := closest(toolbox.transfers, conversation.question)):
        return [FunctionCall(colleague.name)]
    if (plan.unclear or is_unreadable(conversation.question)) and toolbox.facilitator:
        return [signal(toolbox.facilitator, conversation.question)]
    if not plan.unclear and toolbox.conversational:
        return [signal(toolbox.conversational, conversation.question)]
    if choice == "required":
        best = toolbox.best(conversation.question)
        return [signal(best.function if best else offered[0], conversation.question)]
    return []


def _without(calls: list[FunctionCall], made: tuple[FunctionCall, ...]) -> list[FunctionCall]:
    """The calls that were not made yet; how arguments are spaced makes no difference."""
    done = Counter((c.name, _canonical(c.arguments)) for c in made)
    left = []
    for call in calls:
        key = call.name, _canonical(call.arguments)
        if done[key]:
            done[key] -= 1
        else:
            left.append(call)
    return left


def _content(request: ChatRequest, conversation: Conversation) -> str:
    text = _plain_text(request, conversation)
    wanted = request.response_format or {}
    match wanted.get("type"):
        case "json_schema":
            schema = wanted.get("json_schema", {}).get("schema", {})
            if route := route_of(schema, conversation):
                return json.dumps(route, ensure_ascii=False)
            return json.dumps(example(schema, conversation.question, text), ensure_ascii=False)
        case "json_object":
            return json.dumps({"answer": text}, ensure_ascii=False)
        case _:
            return text


def _plain_text(request: ChatRequest, conversation: Conversation) -> str:
    instructions = _DATA.sub("", conversation.instructions)
    if request.tools and conversation.results and (word := _SINGLE_WORD.search(instructions)):
        return word[1]
    if _APOLOGIZES.search(instructions):
        return answers.apology()
    if _REFUSES.search(instructions):
        return answers.refusal()
    if conversation.results:
        return answers.from_results(conversation.results)
    if conversation.reports and not request.tools:
        return answers.from_reports(conversation.reports)
    if resource := _RESOURCE.search(conversation.instructions):
        return answers.from_resource(resource[1], conversation.question)
    if request.tools and Toolbox([tool.function for tool in request.tools]).plan(conversation).unclear:
        return answers.clarification(conversation.question)
    if _SUGGESTS.search(instructions):
        return answers.suggestion(conversation.question)
    if _SUMMARIZES.search(instructions):
        return answers.summary("\n".join([*(m.text for m in conversation.earlier), conversation.question]))
    if _ASKS_BACK.search(instructions) or is_unreadable(conversation.question):
        return answers.clarification(conversation.question)
    return answers.small_talk(conversation)


def _prompt_tokens(request: ChatRequest) -> int:
    said = sum(token_count(m.text) + 3 for m in request.messages)
    called = sum(token_count(c.function.arguments) + 3 for m in request.messages for c in m.tool_calls or ())
    offered = sum(token_count(msgspec.json.encode(t).decode()) for t in request.tools or ())
    return said + called + offered


def _call_id(request: ChatRequest, index: int, call: FunctionCall) -> str:
    """Unique within a conversation: earlier calls are part of what is hashed."""
    seed = msgspec.json.encode((request.messages, index, call))
    return "call_" + hashlib.sha256(seed).hexdigest()[:24]


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments
