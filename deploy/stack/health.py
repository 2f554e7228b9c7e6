"""Which processes of a running stack live, and what they say of themselves."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any

import msgspec

from deploy.local.ports import HOST, accepts
from deploy.stack.data_dir import DataDirectory, ProcessState, StackState

_PLANE_PREFIXES = ("control-plane", "worker-")
_ASK_SECONDS = 5.0


class ProcessReport(msgspec.Struct, frozen=True):
    """`health` is "ready", or says what is wrong; `details` is the answer of `/health/ready` where there is one."""

    name: str
    slug: str
    pid: int | None
    url: str
    is_healthy: bool
    health: str
    details: dict[str, Any] | None = None


def inspect(directory: DataDirectory, state: StackState) -> list[ProcessReport]:
    return [_inspect(directory, process) for process in state.processes]


def _inspect(directory: DataDirectory, process: ProcessState) -> ProcessReport:
    pid = _pid(directory, process)
    is_healthy, health, details = _health(process)
    return ProcessReport(process.name, process.slug, pid, process.url, is_healthy, health, details)


def _pid(directory: DataDirectory, process: ProcessState) -> int | None:
    try:
        return int((directory.run / f"{process.slug}.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _health(process: ProcessState) -> tuple[bool, str, dict[str, Any] | None]:
    if not accepts(process.port):
        return False, "does not accept connections", None
    if not process.slug.startswith(_PLANE_PREFIXES):
        return True, "ready", None
    connection = HTTPConnection(HOST, process.port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        return False, f"does not answer ({error})", None
    finally:
        connection.close()
    try:
        details = json.loads(body)
    except ValueError:
        details = None
    is_ready = answer.status == 200
    return is_ready, "ready" if is_ready else "not ready", details if isinstance(details, dict) else None
