"""Which engine runs a framework with a mode. A framework is imported when the first instance needs it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runtime_worker.engines.base import Engine
from runtime_worker.engines.nodes.modes import MODE_WORKS
from shared.errors import OrchestratorBuildFailed
from shared.frameworks import Framework, Mode

SWITCH_SECONDS = 0.0002

_engines: dict[tuple[Framework, Mode], Engine] = {}


def engine_for(framework: Framework, mode: Mode) -> Engine:
    """Raises OrchestratorBuildFailed for a combination that this version does not run.

    The first call for a framework imports it, which takes most of a second: call it in a thread, or at start.
    """
    engine = loaded_engine(framework, mode)
    if engine is None:
        with _often_interrupted():
            engine = _engines[framework, mode] = _load(framework, mode)
    return engine


def loaded_engine(framework: Framework, mode: Mode) -> Engine | None:
    """The engine if somebody has called for it before."""
    return _engines.get((framework, mode))


@contextmanager
def _often_interrupted() -> Iterator[None]:
    """Python lets a thread go on for 5 ms before it takes the interpreter from it: so long would every step of a live
    stream wait that comes while an import is going on in a thread."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def shared_template_count() -> int:
    """Compiled graphs that instances share, over all engines in use."""
    return sum(engine.template_count for engine in _engines.values())


def _load(framework: Framework, mode: Mode) -> Engine:
    match framework:
        case Framework.LANGGRAPH:
            from runtime_worker.engines.langgraph.engine import LangGraphEngine

            return LangGraphEngine(MODE_WORKS[mode])
        case Framework.OPENAI_AGENTS:
            from runtime_worker.engines.openai_agents.engine import AgentsEngine

            return AgentsEngine(mode)
        case Framework.GOOGLE_ADK:
            from runtime_worker.engines.google_adk.engine import AdkEngine

            return AdkEngine(MODE_WORKS[mode])
        case _:
            raise OrchestratorBuildFailed(f"{framework} with mode {mode} is not available in this version")
