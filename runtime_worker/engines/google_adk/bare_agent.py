"""What all agents of an instance have in common: nobody traces them or hooks into them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event


class BareAgent(BaseAgent):
    """Runs its own work and nothing around it. ADK's spans, counts and callbacks, which nobody reads or sets here, cost
    more than the work of an agent that asks its model once."""

    async def run_async(self, parent_context: InvocationContext) -> AsyncGenerator[Event, None]:
        context = self._create_invocation_context(parent_context)
        async with aclosing(self._run_async_impl(context)) as events:
            async for event in events:
                yield event
