"""Environments of plugins: directories of installed packages, one per lock, built once and shared by all who need it.

A plugin's process finds its modules in three places, in this order: the standard library, the environment of its lock,
and the base, which holds what every plugin may import without declaring it. See decision 0006.
"""

import asyncio
import hashlib
import os
import py_compile
import stat
import sys
import sysconfig
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from shared.errors import DependenciesUnavailable
from shared.logging import get_logger
from shared.packages.kept import KeptDirectories, remove_tree
from shared.packages.locks import lock_text, read_lock
from shared.packages.platform_packages import platform_packages
from shared.packages.uv import UvLimits, run_uv
from shared.packages.workplaces import Workplaces

T = TypeVar("T")

log = get_logger(__name__)

LIMITS = UvLimits(seconds=180.0)
CONCURRENT_BUILDS = 2
WHEELS_FOLDER = "wheels"

# Part of every key: raise it when the same lock should come to something else on disk.
_LAYOUT = "1"
_BASE_LAYOUT = "2"


class Environments:
    """A directory of environments. Several processes may use the same one; it is safe to lose.

    `workplaces` in it are for those who run something in an environment.
    """

    def __init__(self, root: Path, *, index_url: str | None = None, limits: UvLimits = LIMITS) -> None:
        self._kept = KeptDirectories(root)
        self.workplaces = Workplaces(root / ".work")
        self._index_url = index_url
        self._limits = limits
        self._builds = asyncio.Semaphore(CONCURRENT_BUILDS)

    def has(self, lock: str) -> bool:
        """Whether `ensure` has nothing to build."""
        return (self._kept.root / environment_key(lock)).is_dir()

    async def ensure(self, lock: str, *, wheels: Path | None = None) -> Path:
        """The directory of the packages that `lock` names, built when it is not here yet; "" gives an empty one.

        `wheels`, an absolute path, holds wheel files that came with the plugin; then nothing is fetched. Raises
        DependenciesUnavailable, PackageIndexUnavailable.
        """
        packages, problems = read_lock(lock)
        if problems:
            raise DependenciesUnavailable("; ".join(problem.message for problem in problems))
        text = lock_text(packages)
        name = environment_key(text)
        if found := await _guarded(self._kept.use, name):
            return found
        home = self._kept.root / name
        await _guarded(self._kept.check, name)
        async with self._kept.alone(name):
            if not await asyncio.to_thread(home.is_dir):
                async with self._builds:
                    await self._build(text, home, wheels)
        return home

    async def base(self) -> Path:
        """A directory with the packages of the platform that every plugin has, and no others of this installation."""
        name = _base_name()
        if found := await _guarded(self._kept.use, name):
            return found
        home = self._kept.root / name
        await _guarded(self._kept.check, name)
        async with self._kept.alone(name):
            await _guarded(self._link_base, home)
        return home

    async def prune(self, locks: Collection[str]) -> None:
        """Remove environments that nobody has used for long, and what killed processes left. Raises nothing.

        `locks` are those whose environments this process uses.
        """
        in_use = {_base_name(), *map(environment_key, locks)}
        try:
            await asyncio.to_thread(self._kept.prune, in_use)
        except OSError as error:
            log.warning("environments_not_pruned", error=type(error).__name__)

    async def _build(self, lock: str, home: Path, wheels: Path | None) -> None:
        """Build beside the final place and move there, so that what is there is always whole."""
        work = await _guarded(self._kept.workplace, home.name)
        try:
            site = work / "site"
            await _guarded(site.mkdir)
            if lock:
                log.info("plugin_environment_building", environment=home.name)
                await _guarded((work / "requirements.lock").write_text, lock)
                await run_uv(
                    _installation(wheels),
                    home=work,
                    index_url=self._index_url,
                    offline=wheels is not None,
                    limits=self._limits,
                )
            await _guarded(_publish, site, home)
        finally:
            await asyncio.shield(asyncio.to_thread(remove_tree, work))

    def _link_base(self, home: Path) -> None:
        if home.is_dir():
            return
        work = self._kept.workplace(home.name)
        try:
            for package in platform_packages().values():
                for place in package.places:
                    (work / place.name).symlink_to(place)
                    if place.suffix == ".py":
                        _compile(work / place.name)
            _publish(work, home)
        except BaseException:
            remove_tree(work)
            raise


def bundled_wheels(package: Path) -> Path | None:
    """The wheels inside an unpacked package, if it has any: a package that brings wheels brings all it needs."""
    folder = package / WHEELS_FOLDER
    return folder if any(folder.glob("*.whl")) else None


def environment_key(lock: str) -> str:
    """The name of a lock's environment. It depends on the interpreter: compiled wheels fit one kind only."""
    kind = f"{_LAYOUT} {sys.implementation.cache_tag} {sysconfig.get_platform()}"
    return hashlib.sha256(f"{kind}\n{lock}".encode()).hexdigest()[:40]


def _base_name() -> str:
    described = [
        f"{package.name} {package.version} {place}"
        for package in platform_packages().values()
        for place in package.places
    ]
    return f"base-{environment_key(chr(10).join([_BASE_LAYOUT, *sorted(described)]))}"


def _compile(module: Path) -> None:
    """A package brings what it is compiled to; of a module that is beside it, where no link leads to, and every process
    that begins would compile it again.
    """
    compiled = module.parent / "__pycache__" / f"{module.stem}.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(module), str(compiled), doraise=True)


def _installation(wheels: Path | None) -> list[str]:
    return [
        "pip",
        "install",
        f"--python={sys.executable}",
        "--target=site",
        "--requirements=requirements.lock",
        "--require-hashes",
        "--only-binary=:all:",
        "--no-deps",
        "--compile-bytecode",
        # Out of a cache that is thrown away in a moment.
        "--link-mode=hardlink",
        *([f"--find-links={wheels}"] if wheels else []),
    ]


def _publish(site: Path, home: Path) -> None:
    (site / ".lock").unlink(missing_ok=True)
    for folder, folders, files in os.walk(site):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH | (path.stat().st_mode & 0o111))
        for name in folders:
            if not Path(folder, name).is_symlink():
                Path(folder, name).chmod(0o555)
    site.rename(home)
    # Last: a directory that may not be written to cannot be moved either.
    home.chmod(0o555)


async def _guarded(call: Callable[..., T], *arguments: object) -> T:
    try:
        return await asyncio.to_thread(call, *arguments)
    except OSError as error:
        raise DependenciesUnavailable(f"the environments cannot be written ({type(error).__name__})") from error
