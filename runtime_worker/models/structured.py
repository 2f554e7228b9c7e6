"""Answers of a given form from a model that is not asked for them natively: as a tool it has to call."""

import msgspec

from runtime_worker.models.base import ModelAnswer, ModelRequest, ModelTool

ANSWER_TOOL = "give_answer"
_DESCRIPTION = "Give the answer. Call this once, with the whole answer, when nothing else has to be done before."


def with_answer_tool(request: ModelRequest) -> ModelRequest:
    """The request with its form as one more tool. Beside other tools the model may choose which of them it calls."""
    tool = ModelTool(ANSWER_TOOL, _DESCRIPTION, request.response_schema or {"type": "object"})
    is_free = bool(request.tools) and request.tool_choice != "none"
    choice = "required" if is_free else ANSWER_TOOL
    if is_free and request.tool_choice not in ("auto", "required"):
        choice = request.tool_choice
    return msgspec.structs.replace(
        request,
        tools=(*request.tools, tool),
        tool_choice=choice,
        parallel_tool_calls=is_free and request.parallel_tool_calls,
        response_schema=None,
    )


def from_answer_tool(answer: ModelAnswer) -> ModelAnswer:
    """The answer with that call's arguments as its content. Where the model called other tools too, those go first: it
    has not seen their results yet. One that wrote text instead keeps it: it may well be of the form."""
    others = tuple(call for call in answer.tool_calls if call.name != ANSWER_TOOL)
    given = next((call for call in answer.tool_calls if call.name == ANSWER_TOOL), None)
    if others or given is None:
        return msgspec.structs.replace(answer, tool_calls=others)
    reason = "stop" if answer.finish_reason == "tool_calls" else answer.finish_reason
    return msgspec.structs.replace(answer, content=given.arguments, tool_calls=(), finish_reason=reason)
