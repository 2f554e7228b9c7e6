"""What a client is told in a run, as data: the events a scenario expects, and those of a run in the same form.

An event is a tuple: `("agent_start", agent, node)`, `("tool_start", tool, args)`, `("tool_end", tool, result, error)`,
`("message", content, node)`, `("suggestion", content)`. Call ids and durations are left out; fragments of one node that
follow each other are one message, because how a text is cut is the model's doing.
"""

from collections.abc import Sequence
from typing import Any

from tests.fakes.event_sink import RecordingSink

Event = tuple[Any, ...]
Story = list[Event]


def visit(node: str, *inside: Story, agent: str | None = None) -> Story:
    """A node began, what happened in it, it ended. Its agent is called like the node, plugin agents by their pid."""
    name = agent or node.removesuffix("_node")
    return [("agent_start", name, node), *(event for part in inside for event in part), ("agent_end", name, node)]


def wrote(content: str, node: str) -> Story:
    return [("message", content, node)] if content else []


def used(tool: str, args: dict[str, Any], *, result: Any = None, error: str | None = None) -> Story:
    """A call of `<pid>.<tool>` and what came of it."""
    return [("tool_start", tool, args), ("tool_end", tool, result, error)]


def told(sink: RecordingSink) -> Story:
    """What a sink recorded, in the form of an expectation."""
    story: Story = []
    for event in sink.events:
        match event:
            case ("message", content, node):
                if story and story[-1][0] == "message" and story[-1][2] == node:
                    content = story.pop()[1] + content
                if content:
                    story.append(("message", content, node))
            case ("tool_start", tool, _, args):
                story.append(("tool_start", tool, args))
            case ("tool_end", tool, _, result, error):
                story.append(("tool_end", tool, result, error))
            case _:
                story.append(event)
    return story


def side_by_side(story: Sequence[Event]) -> Story:
    """The story with calls that may run at the same time in a fixed order: first all starts, then all ends."""
    ordered: Story = []
    block: Story = []
    for event in [*story, ("end",)]:
        if event[0] in ("tool_start", "tool_end"):
            block.append(event)
            continue
        ordered += sorted((e for e in block if e[0] == "tool_start"), key=repr)
        ordered += sorted((e for e in block if e[0] == "tool_end"), key=repr)
        block = []
        ordered.append(event)
    return ordered[:-1]


def shown(story: Sequence[Event]) -> str:
    """For a failed comparison: one line per event, nested, long texts cut."""
    lines: list[str] = []
    depth = 0
    for kind, *rest in story:
        depth -= kind == "agent_end"
        text = " ".join(
            value[:80] + "…" if isinstance(value, str) and len(value) > 80 else repr(value) for value in rest
        )
        lines.append(f"{'  ' * depth}{kind} {text}")
        depth += kind == "agent_start"
    return "\n".join(lines)
