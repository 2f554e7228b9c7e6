"""Plain-language answers: from tool results, or where there are none, from what the instructions ask for."""

import json
import re
from typing import Any

from deploy.demo.model.wire import Conversation, ToolResult
from deploy.demo.model.words import STOP_WORDS, stems

_GREETING = re.compile(r"^\W*(?:hi|hello|hey|good (?:morning|afternoon|evening)|greetings)\b", re.I)
_THANKS = re.compile(r"\b(?:thanks|thank you|great|perfect|awesome)\b", re.I)
_BYE = re.compile(r"\b(?:bye|goodbye|see you|good night)\b", re.I)
_WHO = re.compile(r"\b(?:who|what) are you\b|\bwhat can you do\b|\babout yourself\b|^\W*help\W*$", re.I)
_NAME = re.compile(r"\b(?i:my name is|I am|I'm)\s+([A-Z][\w'-]*)")
_ASK_NAME = re.compile(r"\bwhat(?:'s| is) my name\b", re.I)
_YOU_ARE = re.compile(r"\AYou are ([^.\n]+)")
_ERROR = re.compile(r"^\W*(?:tool\s+)?(?:error|failed|failure)\b[\s:.-]*", re.I)
_SENTENCE_KEYS = ("answer", "summary", "text", "message", "result_text", "description")


def from_results(results: tuple[ToolResult, ...]) -> str:
    """What the tools found, one sentence each, failures last and in their own words."""
    found = [said for r in results if not is_error(r.content) and (said := _say(r))]
    failed = [f"{_title(r.tool)} could not do it: {_reason(r.content)}" for r in results if is_error(r.content)]
    lines = [*found, *failed]
    if len(lines) == 1:
        return _ended(lines[0])
    return "Here is what I found:\n" + "\n".join(f"- {_ended(line)}" for line in lines)


def from_reports(reports: tuple[tuple[str, str], ...]) -> str:
    """What agents reported, in their order."""
    return "\n".join(_ended(text) for _, text in reports)


def from_resource(text: str, question: str) -> str:
    """What a resource says about the question; all of it when nothing of it is named."""
    value = _parsed(text)
    if not isinstance(value, dict):
        return _ended(f"What I know is this: {_short(text, 600)}")
    asked = {key: inner for key, inner in value.items() if stems(key) & stems(question)}
    return _ended("; ".join(f"{_words(key)}: {_plain(inner)}" for key, inner in (asked or value).items()))


def refusal() -> str:
    return "Sorry, I cannot help with that here. Ask me about what is in front of us."


def small_talk(conversation: Conversation) -> str:
    """An answer that needs no tool. It knows nothing of the world and says so."""
    question = conversation.question
    if _ASK_NAME.search(question):
        told = [m for message in conversation.earlier if message.role == "user" for m in _NAME.finditer(message.text)]
        return f"You told me that your name is {told[-1][1]}." if told else "You have not told me yet."
    if name := _NAME.search(question):
        return f"Nice to meet you, {name[1]}! What can I do for you?"
    if _WHO.search(question):
        return f"{_introduction(conversation.instructions)} Ask me for something that my plugins can do."
    if _GREETING.search(question):
        return "Hello! What can I do for you?"
    if _BYE.search(question):
        return "Goodbye! Come back whenever you like."
    if _THANKS.search(question):
        return "You are welcome! Is there anything else?"
    return (
        f"You said: “{_short(question)}”. I am only the demo model and know nothing beyond the tools that I am given, "
        "and none of them fits. Connect a real model to talk about anything."
    )


def apology() -> str:
    return "Sorry, something went wrong and I could not finish this. Please try again in a moment."


def clarification(question: str) -> str:
    """A question back that repeats what was understood."""
    topic = " ".join(w for w in re.findall(r"[\w'-]+", question) if w.lower() not in STOP_WORDS)
    about = f" about “{_short(topic)}”" if topic else ""
    return f"I am not sure what you need{about}. Could you say it again with all the details, such as values and names?"


def summary(text: str) -> str:
    """The first sentences of a longer text."""
    return _short(" ".join(text.split()), 600)


def suggestion(question: str) -> str:
    return f"Could you tell me more about “{_short(question, 80)}”?"


def is_error(content: str) -> bool:
    """Whether a tool result tells of a failure."""
    value = _parsed(content)
    if isinstance(value, dict):
        return bool(value.get("error"))
    return bool(_ERROR.match(content))


def _introduction(instructions: str) -> str:
    """Who the instructions say that it is, said in the first person; else the plain truth."""
    told = _YOU_ARE.search(instructions)
    if told is None:
        return "I am Cadence's demo model, a small program that picks tools by plain rules."
    return (
        f"I am {told[1].strip()}. Behind me is Cadence's demo model, a small program that picks tools by plain rules."
    )


def _say(result: ToolResult) -> str:
    value = _parsed(result.content)
    if isinstance(value, dict):
        for key in _SENTENCE_KEYS:
            if isinstance(value.get(key), str) and value[key].strip():
                return str(value[key])
        return f"{_title(result.tool)}: " + ", ".join(f"{_words(k)} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return f"{_title(result.tool)}: " + (", ".join(_plain(v) for v in value) or "nothing")
    if isinstance(value, int | float):
        return f"{_title(result.tool)}: {value}"
    return result.content.strip() or f"{_title(result.tool)} gave an empty answer"


def _reason(content: str) -> str:
    value = _parsed(content)
    if isinstance(value, dict):
        error = value.get("error")
        return str(error.get("message", error) if isinstance(error, dict) else error)
    return _ERROR.sub("", content).strip()


def _parsed(content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{_words(k)} {_plain(v)}" for k, v in value.items()) + ")"
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    return "yes" if value is True else "no" if value is False else "nothing" if value is None else str(value)


def _title(tool: str) -> str:
    words = _words(tool.rpartition("__")[2].rpartition(".")[2])
    return words[:1].upper() + words[1:]


def _words(identifier: str) -> str:
    return re.sub(r"[\W_]+", " ", identifier).strip()


def _short(text: str, limit: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _ended(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", "…", ":")) or "\n" in text else text + "."
