"""Which agent a coordinator sends next."""

import re
from collections.abc import Mapping
from typing import Any

from deploy.demo.model.decisions import closest
from deploy.demo.model.wire import Conversation, Function

FINISH = "finish"
_AGENT = re.compile(r'<agent name="([^"]*)">\s*(.*?)\s*</agent>', re.S)


def route_of(schema: Mapping[str, Any], conversation: Conversation) -> dict[str, str] | None:
    """A decision for a schema that asks for one of several agents or to finish; None for any other schema.

    Every agent whose description fits the question is sent once, with the question as its task.
    """
    choices = schema.get("properties", {}).get("next", {}).get("enum", ())
    if FINISH not in choices:
        return None
    reported = {agent for agent, _ in conversation.reports}
    for name, description in _AGENT.findall(conversation.instructions):
        if name not in choices or name in reported:
            continue
        if closest([Function(name, description)], conversation.question):
            return {"next": name, "task": conversation.question}
    return {"next": FINISH, "task": ""}
