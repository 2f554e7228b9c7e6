"""The root of an instance's agents: visits one node after the other, as the mode's policy says."""

from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event

from runtime_worker.engines.google_adk.bare_agent import BareAgent
from runtime_worker.engines.google_adk.run import current_run
from runtime_worker.engines.nodes.visit import merged

NO_EVENTS: tuple[Event, ...] = ()
"""What the agents said stays in the run: a session that ends with its turn has no reader."""


class ModeAgent(BareAgent):
    """A custom agent. Its sub-agents are those of the nodes that have a model; the other nodes are its own work."""

    mode: Any
    """A `ModeWork`; typed loosely because pydantic cannot check a generic dataclass."""

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        run, mode = current_run.get(), self.mode
        run.context = ctx
        state, node = mode.begin(run), mode.entry
        try:
            while node is not None:
                update, node = await mode.visit(node, state, run)
                state = merged(state, update)
        finally:
            await run.leave()
        run.state = state
        for event in NO_EVENTS:
            yield event
