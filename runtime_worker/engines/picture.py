"""A Mermaid graph of a mode as it is wired, for a framework that draws none."""

from collections.abc import Mapping, Sequence

START, END = "__start__", "__end__"


def flowchart(entries: Sequence[str], routes: Mapping[str, Sequence[str | None]]) -> str:
    """`routes` are the nodes that can follow each node, None for the end. What is chosen at run time is dotted, as
    LangGraph draws it."""
    lines = ["graph TD;", *(f"\t{name}([{name}])" for name in (START, END)), *(f"\t{name}({name})" for name in routes)]
    for name, followers in {START: entries, **routes}.items():
        arrow = "-.->" if len(followers) > 1 else "-->"
        lines += [f"\t{name} {arrow} {follower or END};" for follower in followers]
    return "\n".join([*lines, ""])
