"""What a finished run leaves to the conversation's next turn, beside its messages."""

from collections.abc import Mapping
from typing import Any

import msgspec

from runtime_worker.engines.base import RunResult
from runtime_worker.turn.run import Run
from shared.frameworks import Mode
from shared.logging import get_logger

MAX_ANCHOR_BYTES = 1024 * 1024
"""Read with the conversation on every turn. A larger resource is loaded anew each time."""

log = get_logger(__name__)


def keep_anchor(run: Run, anchor: Mapping[str, Any]) -> None:
    """Have what a run loaded stored with the conversation that begins with it, rather than in a write of its own."""
    if run.opens is not None:
        run.opens = msgspec.structs.replace(run.opens, anchor=_encoded(run, anchor))


def kept_anchor(run: Run, result: RunResult) -> str | None:
    """As JSON what the run loaded of its resource and is to be stored at its end; None for nothing, or nothing that can
    be kept."""
    if result.anchor is None or run.is_anchor_kept:
        return None
    return _encoded(run, result.anchor)


def _encoded(run: Run, anchor: Mapping[str, Any]) -> str | None:
    try:
        encoded = msgspec.json.encode(anchor)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        log.warning("anchor_not_kept", run_id=str(run.run_id), org_id=str(run.org_id), reason=type(error).__name__)
        return None
    if len(encoded) > MAX_ANCHOR_BYTES:
        log.warning("anchor_not_kept", run_id=str(run.run_id), org_id=str(run.org_id), size_bytes=len(encoded))
        return None
    return encoded.decode()


def kept_agent(run: Run, result: RunResult) -> str | None:
    """Who goes on with the conversation, where that is a matter of the mode and somebody else than before."""
    is_new = run.mode is Mode.HANDOFF and result.current_agent != run.last_agent
    return result.current_agent if is_new else None
