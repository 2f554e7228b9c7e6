"""Running an instance's agents for one turn. A session lives exactly as long as its turn."""

import logging
import os
import sys
from contextlib import aclosing

from google.adk.agents import BaseAgent, RunConfig
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.telemetry.context import (
    ADK_TELEMETRY_IGNORE_RUN_CONFIG,
    ContentCapturingMode,
    TelemetryConfig,
)
from google.genai import types

from runtime_worker.engines.base import RunRequest

APP_NAME = "cadence"
USER_ID = "user"
"""Sessions are told apart by their runs alone; a user's id would leave an empty entry behind for each user."""
NO_LIMIT = sys.maxsize - 1
"""Of model calls. The policies have the limits; ADK's own would come from an environment variable."""


def quiet_process() -> None:
    """For the whole process: what an operator's environment says cannot bring back what `AgentRunner` turns off."""
    os.environ.pop(ADK_TELEMETRY_IGNORE_RUN_CONFIG, None)
    # Below errors it logs names that models made up, and advice for the author of the agents.
    logging.getLogger("google_adk").setLevel(logging.ERROR)


class AgentRunner:
    """Runs turns of one tree of agents, any number at the same time. The agents hold nothing of a run."""

    def __init__(self, root: BaseAgent) -> None:
        self._sessions = InMemorySessionService()
        self._runner = Runner(app_name=APP_NAME, agent=root, session_service=self._sessions)
        self._config = RunConfig(
            max_llm_calls=NO_LIMIT,
            telemetry=TelemetryConfig(
                capture_message_content=ContentCapturingMode.NO_CONTENT,
                genai_semconv_stability_opt_in="stable",
                adk_experimental_telemetry_opt_in=False,
            ),
        )

    async def run(self, request: RunRequest) -> None:
        """One turn, to its end. What the agents make of it is up to the run's context. Raises what they raise."""
        session_id = str(request.run_id)
        message = types.Content(role="user", parts=[types.Part(text=request.message)])
        await self._sessions.create_session(app_name=APP_NAME, user_id=USER_ID, session_id=session_id)
        try:
            events = self._runner.run_async(
                user_id=USER_ID, session_id=session_id, new_message=message, run_config=self._config
            )
            async with aclosing(events):
                async for _ in events:
                    pass
        finally:
            await self._sessions.delete_session(app_name=APP_NAME, user_id=USER_ID, session_id=session_id)

    @property
    def open_sessions(self) -> int:
        return sum(len(sessions) for users in self._sessions.sessions.values() for sessions in users.values())
