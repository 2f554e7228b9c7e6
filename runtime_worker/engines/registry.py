"""Which engine runs a framework with a mode. A framework is imported when the first instance needs it."""

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runtime_worker.engines import rehearsal
from runtime_worker.engines.base import Engine
from runtime_worker.engines.nodes.modes import MODE_WORKS
from runtime_worker.engines.rehearsal import rehearse
from shared.frameworks import Framework, Mode
from shared.logging import get_logger

SWITCH_SECONDS = 0.0002

log = get_logger(__name__)

_engines: dict[tuple[Framework, Mode], Engine] = {}
_rehearsed: set[Framework] = set()
_one_at_a_time = threading.Lock()


def engine_for(framework: Framework, mode: Mode) -> Engine:
    """The first call for a framework imports it, which takes a second or two."""
    engine = loaded_engine(framework, mode)
    if engine is None:
        engine = _engines[framework, mode] = _load(framework, mode)
    return engine


def prepare_engine(framework: Framework, mode: Mode) -> Engine:
    """The same, with all that the framework's first turn would still have to do. To be called in a thread."""
    with _one_at_a_time, _beside_streams():
        engine = engine_for(framework, mode)
        if framework not in _rehearsed:
            _rehearsed.add(framework)
            try:
                asyncio.run(rehearse(framework, engine_for(framework, rehearsal.MODE)))
            except Exception:  # It is for speed only: whatever is wrong shows in the builds and runs themselves.
                log.exception("rehearsal_failed", framework=framework.value)
    return engine


def loaded_engine(framework: Framework, mode: Mode) -> Engine | None:
    """The engine if somebody has called for it before."""
    return _engines.get((framework, mode))


@contextmanager
def _beside_streams() -> Iterator[None]:
    """For an import that goes on in a thread while streams are live.

    Python lets a thread go on for 5 ms before it takes the interpreter from it: so long would every step of a stream
    wait. And of the hundred thousands of objects that an import makes nearly all stay: collecting them stops every
    stream, again and again, and finds nothing. They are frozen instead, as what was imported at the start is.
    """
    usual, collects = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
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
