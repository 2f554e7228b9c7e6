"""A framework's first turn, played without a model before anybody waits for one.

Frameworks put off much of what they import and build until something is really run: of ADK it is half a second's work,
in which no stream of the worker would move on if it were done on the loop.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from runtime_worker.engines.base import Engine, EngineParts, RunRequest
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest, ModelToolCall, Usage
from runtime_worker.plugins.base import PluginTool, ToolOutcome
from shared.frameworks import Framework, Mode, Provider
from shared.ids import new_id
from shared.orchestrator_config import parse_config, to_stored
from shared.snapshots import LLMConfigSnapshot, OrchestratorSnapshot

MODE = Mode.HANDOFF
"""The mode whose agents have everything that a framework knows of: tools, a loop, a visible answer."""
_NAME = "rehearsal"
_SECONDS = 60.0


async def rehearse(framework: Framework, engine: Engine) -> None:
    """Build an instance on an engine of `MODE` and run a turn of it with one tool call. Raises what a run raises."""
    snapshot = _snapshot(framework)
    (config,) = snapshot.llm_configs.values()
    orchestrator = await engine.build(snapshot, EngineParts({(config.id, _NAME): _Model()}, (_Bundle(),)))
    request = RunRequest(
        run_id=new_id(),
        conversation_id=new_id(),
        org_id=snapshot.org_id,
        user_id=new_id(),
        message=_NAME,
        history=(),
        resource_id=None,
        deadline=asyncio.get_running_loop().time() + _SECONDS,
    )
    await orchestrator.run(request, _Nobody())


def _snapshot(framework: Framework) -> OrchestratorSnapshot:
    config = LLMConfigSnapshot(
        id=new_id(),
        provider=Provider.LITELLM,
        model_name=_NAME,
        base_url=None,
        additional_config={},
        sealed_api_key="",
        key_fingerprint="",
        revision=1,
    )
    return OrchestratorSnapshot(
        instance_id=new_id(),
        org_id=new_id(),
        name=_NAME,
        framework_type=framework,
        mode=MODE,
        status="active",
        tier="demand",
        is_unloaded=False,
        revision=1,
        config_hash=_NAME,
        whoami="",
        config=to_stored(parse_config(MODE, {"default_llm_config_id": str(config.id)})),
        plugins=(),
        llm_configs={str(config.id): config},
    )


class _Model:
    """Calls the tool, then answers."""

    model_name = _NAME

    async def complete(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelAnswer:
        if request.messages[-1].role != "tool":
            return ModelAnswer("", (ModelToolCall("1", _NAME, "{}"),), "tool_calls", Usage())
        if on_delta is not None:
            on_delta(_NAME)
        return ModelAnswer(_NAME, (), "stop", Usage())


class _Bundle:
    """A plugin with one tool, which does nothing."""

    pid = description = system_prompt = _NAME
    version = "1.0.0"
    tools = (PluginTool(_NAME, _NAME, _NAME, {"type": "object", "properties": {}}),)
    resident_bytes = 0

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        return ToolOutcome(content=_NAME, shown=None, is_error=False)

    async def close(self) -> None: ...


class _Nobody:
    """Hears of everything."""

    def agent_start(self, agent: str, node: str) -> None: ...

    def agent_end(self, agent: str, node: str) -> None: ...

    def tool_start(self, tool: str, call_id: str, args: Mapping[str, Any]) -> None: ...

    def tool_end(
        self, tool: str, call_id: str, *, duration_ms: int, result: Any = None, error: str | None = None
    ) -> None: ...

    def message(self, content: str, node: str) -> None: ...

    def suggestion(self, content: str) -> None: ...

    async def recorded(self) -> None: ...
