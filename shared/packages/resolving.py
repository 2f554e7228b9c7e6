"""From declared dependencies to a lock: exact versions with the hashes of their wheels."""

import asyncio
import sys
from pathlib import Path

from shared.errors import DependenciesUnavailable
from shared.packages.locks import lock_text, read_lock
from shared.packages.platform_packages import platform_packages, write_descriptions
from shared.packages.uv import UvLimits, run_uv

LIMITS = UvLimits(seconds=60.0)


async def resolve(
    requires: tuple[str, ...],
    *,
    home: Path,
    index_url: str | None,
    wheels: Path | None = None,
    limits: UvLimits = LIMITS,
) -> str:
    """The lock of PEP 508 requirements that were checked before, made in `home`, an empty directory.

    With `wheels`, an absolute path, nothing else is used. Only wheels count, and the platform's own packages stay at
    the platform's versions and out of the lock. Raises DependenciesUnavailable with the resolver's reason,
    PackageIndexUnavailable.
    """
    await asyncio.to_thread(_prepare, home, requires)
    arguments = [
        "pip",
        "compile",
        "requirements.in",
        f"--python={sys.executable}",
        "--constraints=constraints.txt",
        "--find-links=platform",
        "--only-binary=:all:",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--quiet",
        *(f"--no-emit-package={name}" for name in platform_packages()),
        *([f"--find-links={wheels}"] if wheels else []),
    ]
    compiled = await run_uv(arguments, home=home, index_url=index_url, offline=wheels is not None, limits=limits)
    packages, problems = read_lock(compiled)
    if problems:
        raise DependenciesUnavailable("; ".join(problem.message for problem in problems))
    return lock_text(packages)


def _prepare(home: Path, requires: tuple[str, ...]) -> None:
    (home / "platform").mkdir()
    write_descriptions(home / "platform")
    (home / "requirements.in").write_text("\n".join(requires) + "\n")
    pins = [f"{package.name}=={package.version}" for package in platform_packages().values()]
    (home / "constraints.txt").write_text("\n".join(pins) + "\n")
