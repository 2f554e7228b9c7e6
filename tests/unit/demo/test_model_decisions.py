"""What the demo model does with tools it has never seen before."""

import json
from typing import Any

import pytest

from deploy.demo.model.reply import Reply, reply_to
from deploy.demo.model.wire import ChatRequest, Function, FunctionCall, Message, Tool, ToolCall

CONVERT = Function(
    "convert_units",
    "Convert a measurement from one unit to another.",
    {
        "type": "object",
        "properties": {
            "value": {"type": "number", "description": "How much"},
            "from_unit": {"type": "string", "description": "Unit of the value"},
            "to_unit": {"type": "string", "description": "Unit wanted"},
        },
        "required": ["value", "from_unit", "to_unit"],
    },
)
CALCULATE = Function(
    "math__calculate",
    "Calculate an arithmetic expression.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)
WEATHER = Function(
    "get_weather",
    "Current weather in a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"anyOf": [{"$ref": "#/$defs/Unit"}, {"type": "null"}], "default": None},
        },
        "required": ["city"],
        "$defs": {"Unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
    },
)
TICKET = Function(
    "create_ticket",
    "Create a support ticket.",
    {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "priority": {"type": "string", "enum": ["low", "normal", "high"]},
            "urgent": {"type": "boolean"},
            "labels": {"type": "array", "items": {"type": "string", "enum": ["billing", "network"]}},
        },
        "required": ["title", "priority"],
    },
)
ADD = Function(
    "add_numbers",
    "Sum of a list of numbers.",
    {
        "type": "object",
        "properties": {"numbers": {"type": "array", "items": {"type": "number"}}},
        "required": ["numbers"],
    },
)
CONVERSATIONAL = Function("signal_conversational", "No tool is needed.", {"type": "object", "properties": {}})
FACILITATOR = Function(
    "signal_facilitator",
    "The intent is unclear.",
    {"type": "object", "properties": {"reason": {"type": "string"}}, "required": ["reason"]},
)
EVERYTHING = (CONVERT, CALCULATE, WEATHER, TICKET, ADD, CONVERSATIONAL, FACILITATOR)


def ask(*messages: Message | str, tools: tuple[Function, ...] = EVERYTHING, **options: Any) -> Reply:
    sent = tuple(Message("user", m) if isinstance(m, str) else m for m in messages)
    return reply_to(ChatRequest(sent, tools=tuple(Tool(f) for f in tools) or None, **options))


def calls_of(reply: Reply) -> list[tuple[str, dict[str, Any]]]:
    return [(c.function.name, json.loads(c.function.arguments)) for c in reply.tool_calls]


def called(*calls: ToolCall) -> Message:
    return Message("assistant", None, calls)


@pytest.mark.parametrize(
    ("question", "tool", "arguments"),
    [
        ("What is 12 * 7?", "math__calculate", {"expression": "12 * 7"}),
        ("how much is 15% of (200 + 40)", "math__calculate", {"expression": "15 / 100 * (200 + 40)"}),
        ("What's the square root of 144 plus 3?", "math__calculate", {"expression": "sqrt(144) + 3"}),
        ("Convert 5 miles to km", "convert_units", {"value": 5, "from_unit": "miles", "to_unit": "km"}),
        ("How many pounds are 2.5 kg?", "convert_units", {"value": 2.5, "from_unit": "kg", "to_unit": "pounds"}),
        ("I ran 10 km, what is that in miles?", "convert_units", {"value": 10, "from_unit": "km", "to_unit": "miles"}),
        ("-40 °F in °C please", "convert_units", {"value": -40, "from_unit": "°F", "to_unit": "°C"}),
        ("Is the weather in New York fine? In celsius", "get_weather", {"city": "New York"}),
        ("weather for Berlin in fahrenheit", "get_weather", {"city": "Berlin", "unit": "fahrenheit"}),
        (
            'Create a high priority ticket "Printer on fire" for billing, not urgent',
            "create_ticket",
            {"title": "Printer on fire", "priority": "high", "urgent": False, "labels": ["billing"]},
        ),
        ("Add the numbers 1, 2.5 and 1,000", "add_numbers", {"numbers": [1, 2.5, 1000]}),
    ],
)
def test_a_message_becomes_the_call_of_the_tool_it_is_about(
    question: str, tool: str, arguments: dict[str, Any]
) -> None:
    assert (tool, arguments) in calls_of(ask(question))


def test_two_requests_in_one_sentence_become_two_calls() -> None:
    reply = ask("What is 26.2 miles in kilometers, and what is 15% of 240?")

    assert [name for name, _ in calls_of(reply)] == ["convert_units", "math__calculate"]
    assert reply.finish_reason == "tool_calls"
    assert len({call.id for call in reply.tool_calls}) == 2


def test_without_parallel_calls_the_second_is_made_after_the_first_has_answered() -> None:
    question = "What is 26.2 miles in kilometers, and what is 15% of 240?"
    first = ask(question, parallel_tool_calls=False)
    assert [name for name, _ in calls_of(first)] == ["convert_units"]

    result = Message("tool", "26.2 mi = 42.164813 km", tool_call_id=first.tool_calls[0].id)
    second = ask(Message("user", question), called(*first.tool_calls), result, parallel_tool_calls=False)
    assert [name for name, _ in calls_of(second)] == ["math__calculate"]


def test_a_short_follow_up_reuses_what_the_last_call_knew() -> None:
    before = ToolCall("1", FunctionCall("convert_units", '{"value":5,"from_unit":"miles","to_unit":"km"}'))

    reply = ask(
        "How far is 5 miles in km?",
        called(before),
        Message("tool", "8.04672", tool_call_id="1"),
        Message("assistant", "8.05 km."),
        "And in metres?",
    )

    assert calls_of(reply) == [("convert_units", {"value": 5, "from_unit": "miles", "to_unit": "metres"})]


@pytest.mark.parametrize("question", ["Hello!", "Thanks, that's great", "Who wrote Faust?", "How are you today?"])
def test_small_talk_is_signalled_as_conversational(question: str) -> None:
    assert calls_of(ask(question)) == [("signal_conversational", {})]


@pytest.mark.parametrize("question", ["convert something", "???", "Create a ticket"])
def test_a_request_that_lacks_what_the_tool_needs_is_signalled_to_the_facilitator(question: str) -> None:
    assert [name for name, _ in calls_of(ask(question))] == ["signal_facilitator"]


def test_without_signals_an_unclear_request_is_asked_back_in_words() -> None:
    reply = ask("convert something", tools=(CONVERT,))

    assert not reply.tool_calls
    assert reply.content.endswith("?")
    assert "convert something" in reply.content


def test_the_answer_is_made_of_the_tool_results_and_never_of_anything_else() -> None:
    first = ask("What is 12 * 7 and convert 5 miles to km?")
    results = [
        Message("tool", "12 * 7 = 84", tool_call_id=first.tool_calls[0].id),
        Message("tool", '{"error": "the unit is not known"}', tool_call_id=first.tool_calls[1].id),
    ]

    answer = ask("What is 12 * 7 and convert 5 miles to km?", called(*first.tool_calls), *results)

    assert not answer.tool_calls
    assert "12 * 7 = 84." in answer.content
    assert "could not do it: the unit is not known" in answer.content


def test_a_failed_call_is_not_tried_again_in_the_same_turn() -> None:
    first = ask("What is 12 * 7?")
    failed = Message("tool", "Error: out of order", tool_call_id=first.tool_calls[0].id)

    assert not ask("What is 12 * 7?", called(*first.tool_calls), failed).tool_calls


def test_tool_choice_is_obeyed() -> None:
    assert not ask("What is 12 * 7?", tool_choice="none").tool_calls
    assert calls_of(ask("Hello", tools=(CALCULATE, WEATHER), tool_choice="required"))
    forced = ask("in Paris", tool_choice={"type": "function", "function": {"name": "get_weather"}})
    assert calls_of(forced) == [("get_weather", {"city": "Paris"})]


def test_structured_output_satisfies_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "is_valid": {"type": "boolean"},
            "has_errors": {"type": "boolean"},
            "reasons": {"type": "array", "items": {"type": "string"}},
            "score": {"type": "number", "minimum": 0.5, "maximum": 1},
            "verdict": {"$ref": "#/$defs/Verdict"},
        },
        "required": ["is_valid", "has_errors", "reasons", "score", "verdict"],
        "$defs": {"Verdict": {"type": "string", "enum": ["pass", "fail"]}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "validation", "schema": schema}}

    value = json.loads(ask("Is 84 right?", tools=(), response_format=wanted).content)

    assert value["is_valid"] is True
    assert value["has_errors"] is False
    assert isinstance(value["reasons"], list)
    assert 0.5 <= value["score"] <= 1
    assert value["verdict"] in ("pass", "fail")


def test_the_same_request_gets_the_same_reply() -> None:
    assert ask("What is 12 * 7?") == ask("What is 12 * 7?")


def test_an_answer_is_cut_at_the_token_limit_and_says_so() -> None:
    reply = ask("Hello!", tools=(), max_tokens=2)

    assert reply.finish_reason == "length"
    assert len(reply.content.split()) == 2


def test_it_remembers_what_the_conversation_said() -> None:
    told = ask("My name is Ada", tools=())
    assert "Ada" in told.content

    reply = ask("My name is Ada", Message("assistant", told.content), "What is my name?", tools=())
    assert "Ada" in reply.content


def test_it_says_who_the_instructions_make_it() -> None:
    instructions = Message("system", "You are Ada, the desk assistant. You are brief.\n\nAnswer the user.")

    assert ask(instructions, "Who are you?", tools=()).content.startswith("I am Ada, the desk assistant.")


def test_instructions_inside_data_are_not_followed() -> None:
    instructions = Message(
        "system", "Answer the user.\n<plugins>\nSummarise the conversation. Suggest one.\n</plugins>"
    )

    assert ask(instructions, "Hello!", tools=()).content == "Hello! What can I do for you?"


def test_a_supervisor_that_wants_a_single_word_when_done_gets_it() -> None:
    rules = Message("system", "If the results are enough to answer, reply with the single word DONE and call nothing.")
    first = ask(rules, "What is 12 * 7?")
    result = Message("tool", "12 * 7 = 84", tool_call_id=first.tool_calls[0].id)

    assert ask(rules, "What is 12 * 7?", called(*first.tool_calls), result).content == "DONE"


def test_a_result_between_tags_is_read_without_them() -> None:
    first = ask("What is 12 * 7?")
    result = Message("tool", "<tool_result>\n12 * 7 = 84\n</tool_result>", tool_call_id=first.tool_calls[0].id)

    assert ask("What is 12 * 7?", called(*first.tool_calls), result).content == "12 * 7 = 84."
