"""What the nodes of every mode have in common."""

from enum import StrEnum

ERROR_HANDLER = "error_handler_node"
SUGGESTION = "suggestion_node"
"""Nodes that every mode has."""
AGENT = "agent_node"
"""Stands for every plugin agent, in the modes that make one of each plugin."""


class ModeNode(StrEnum):
    """A node of a mode; its value is what events, overrides and graphs call it."""

    @property
    def agent(self) -> str:
        """The name that events give to the agent of this node."""
        return self.value.removesuffix("_node")
