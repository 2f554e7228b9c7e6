"""The checks of an upload on an author's machine: the very ones of the control plane, which import nothing of a server.

What only a server knows is left to the upload: whether the version exists there, and whose the pid is.
"""

import os
import re
from pathlib import Path

import msgspec

from deploy.errors import DeployError
from shared.errors import DomainError, FieldError
from shared.packages.environments import Environments
from shared.packages.inspection.inspector import Inspector
from shared.packages.inspection.preparation import Preparation, PreparedPackage

_PLACE = re.compile(r"([\w./-]+\.py), line (\d+)")


class Finding(msgspec.Struct, frozen=True):
    """One reason for a refusal. `file` (below the plugin's folder) and `line` where it has one."""

    message: str
    field: str
    code: str
    file: str | None = None
    line: int | None = None


class CannotCheck(DeployError):
    """The checks could not be made: nothing is said about the plugin."""


class Checks:
    """The checks with an author's own cache of dependencies."""

    def __init__(self, *, index_url: str | None = None, cache: Path | None = None) -> None:
        self._environments = Environments((cache or default_cache()) / "environments", index_url=index_url)
        self._preparation = Preparation(Inspector(self._environments), self._environments, index_url=index_url)

    async def check(self, package: bytes) -> PreparedPackage | list[Finding]:
        """What an upload would learn about the package, or everything it would be refused for. Raises CannotCheck."""
        try:
            return await self._preparation.prepare(package)
        except DomainError as error:
            if error.retryable:
                raise CannotCheck(f"The plugin cannot be checked now: {error.detail}.") from None
            return [_finding(reason) for reason in error.errors] or [Finding(error.detail, "file", error.code)]

    async def environment(self, prepared: PreparedPackage) -> Path:
        """The directory with the plugin's dependencies as its checks installed them. Raises CannotCheck."""
        try:
            return await self._environments.ensure(prepared.lock)
        except DomainError as error:
            raise CannotCheck(f"The dependencies cannot be installed: {error.detail}.") from None


def default_cache() -> Path:
    """Where dependencies are kept between commands; safe to remove."""
    if given := os.environ.get("CADENCE_PACKAGE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cadence" / "plugins"


def _finding(reason: FieldError) -> Finding:
    place = _PLACE.search(reason.message)
    return Finding(
        reason.message,
        reason.field,
        reason.code,
        file=place[1] if place else None,
        line=int(place[2]) if place else None,
    )
