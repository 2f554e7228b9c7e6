"""Orchestrators that do what a test says, and a builder that counts what it made and what was given back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from runtime_worker.engines.base import EventSink, RunRequest, RunResult
from runtime_worker.engines.choices import ModelKey
from runtime_worker.models.base import ModelClient, Usage
from runtime_worker.plugins.base import PluginBundle
from shared.errors import OrchestratorBuildFailed
from shared.snapshots import OrchestratorSnapshot

Script = Callable[[RunRequest, EventSink], Awaitable[RunResult | None]]

NODE = "conversational_node"


async def say(sink: EventSink, *fragments: str) -> None:
    for fragment in fragments:
        sink.message(fragment, NODE)
        await asyncio.sleep(0)


async def echo(request: RunRequest, sink: EventSink) -> None:
    """Answers with what was asked, in two fragments."""
    sink.agent_start("assistant", NODE)
    await say(sink, "You said: ", request.message)
    sink.agent_end("assistant", NODE)


class ScriptedOrchestrator:
    """Runs its builder's script; a script that returns nothing ends like an ordinary answer."""

    def __init__(self, snapshot: OrchestratorSnapshot, builder: "ScriptedBuilder") -> None:
        self._snapshot = snapshot
        self._builder = builder
        self.is_closed = False

    @property
    def snapshot(self) -> OrchestratorSnapshot:
        return self._snapshot

    async def run(self, request: RunRequest, sink: EventSink) -> RunResult:
        assert not self.is_closed, "a run got an orchestrator that was closed"
        self._builder.requests.append(request)
        told = _Told(sink)
        result = await self._builder.script(request, told)
        assert not self.is_closed, "an orchestrator was closed under a run"
        return result or RunResult("".join(told.fragments), Usage(10, 5), 1, "assistant")

    def mermaid(self) -> str:
        return "graph TD\n  start --> answer\n"


class _Told:
    """Passes everything on and keeps the text."""

    def __init__(self, sink: EventSink) -> None:
        self.fragments: list[str] = []
        self.agent_start, self.agent_end = sink.agent_start, sink.agent_end
        self.tool_start, self.tool_end = sink.tool_start, sink.tool_end
        self.suggestion, self._message, self.recorded = sink.suggestion, sink.message, sink.recorded

    def message(self, content: str, node: str) -> None:
        self.fragments.append(content)
        self._message(content, node)


class ScriptedBuilt:
    models: Mapping[ModelKey, ModelClient] = MappingProxyType({})

    def __init__(self, orchestrator: ScriptedOrchestrator, builder: "ScriptedBuilder") -> None:
        self.orchestrator = orchestrator
        instance_id = orchestrator.snapshot.instance_id
        self.own_bytes = builder.sizes.get(instance_id, 0)
        self.bundles = builder.bundles.get(instance_id, ())
        self._builder = builder

    async def close(self) -> None:
        if self.orchestrator.is_closed:
            # Noted, because whoever closes takes care not to fail on what closing does.
            self._builder.violations.append("closed twice")
            return
        self.orchestrator.is_closed = True
        self._builder.open.remove(self.orchestrator)


class ScriptedBuilder:
    """`open` are the orchestrators not given back yet, `builds` the config hashes built, `failing` what cannot be.

    `sizes` are the bytes of an instance's builds, `bundles` the plugin bundles they hold. The builds of `held` ones do
    not come to an end.
    """

    def __init__(self, script: Script = echo) -> None:
        self.script: Script = script
        self.requests: list[RunRequest] = []
        self.open: list[ScriptedOrchestrator] = []
        self.builds: list[str] = []
        self.failing: set[UUID] = set()
        self.held: set[UUID] = set()
        self.sizes: dict[UUID, int] = {}
        self.bundles: dict[UUID, Sequence[PluginBundle]] = {}
        self.violations: list[str] = []
        self._under_way: set[UUID] = set()
        self.may_finish = asyncio.Event()
        self.may_finish.set()

    async def build(self, snapshot: OrchestratorSnapshot) -> ScriptedBuilt:
        if snapshot.instance_id in self._under_way:
            self.violations.append("two builds of one instance at once")
        self._under_way.add(snapshot.instance_id)
        try:
            while snapshot.instance_id in self.held:
                await asyncio.sleep(0.01)
            await self.may_finish.wait()
            await asyncio.sleep(0)
        finally:
            self._under_way.discard(snapshot.instance_id)
        if snapshot.instance_id in self.failing:
            raise OrchestratorBuildFailed("the plugin cannot be imported")
        self.builds.append(snapshot.config_hash)
        orchestrator = ScriptedOrchestrator(snapshot, self)
        self.open.append(orchestrator)
        return ScriptedBuilt(orchestrator, self)
