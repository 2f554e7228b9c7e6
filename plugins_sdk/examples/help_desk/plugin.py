"""A scoped agent for grounded conversations, about one ticket each, that is specialized too."""

from typing import Annotated, Any

from cadence_sdk import BaseAgent, BasePlugin, BaseScopedAgent, BaseSpecializedAgent, PluginMetadata, UvTool, uvtool
from pydantic import Field

from .tickets import find_ticket


@uvtool
def ticket_history(ticket_id: Annotated[str, Field(description="Id of the ticket, such as T-1001")]) -> str:
    """Show the history of a ticket: what was written so far."""
    ticket = find_ticket(ticket_id)
    return "\n".join(ticket["history"]) if ticket else f"There is no ticket {ticket_id}."


class TicketAgent(BaseSpecializedAgent, BaseScopedAgent):
    def get_tools(self) -> list[UvTool]:
        return [ticket_history]

    def get_system_prompt(self) -> str:
        return "You help the people of a help desk with a ticket. Answer from the ticket only, in short sentences."

    async def load_anchor(self, resource_id: str) -> dict[str, Any]:
        """What every message of the conversation may rely on. `{}` says that there is no such ticket."""
        ticket = find_ticket(resource_id)
        if ticket is None:
            return {}
        return {"id": resource_id, **{key: ticket[key] for key in ("subject", "status", "customer")}}

    def build_scope_rules(self, context: dict[str, Any]) -> str:
        return (
            f"Talk about ticket {context['id']} ({context['subject']}) only. "
            "Never show other tickets, and promise nothing in the name of the desk."
        )


class HelpDeskPlugin(BasePlugin):
    @staticmethod
    def get_metadata() -> PluginMetadata:
        return PluginMetadata(
            pid="com.example.help-desk",
            name="Help desk",
            version="1.0.0",
            description="Talks about one ticket of a help desk.",
            capabilities=["tickets"],
        )

    @staticmethod
    def create_agent() -> BaseAgent:
        return TicketAgent()
