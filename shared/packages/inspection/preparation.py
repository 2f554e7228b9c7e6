"""From an uploaded zip to all that its catalogue row will say: everything about an upload that needs no database.

In two passes, because plugins import their dependencies at the top: the first reads metadata and settings with
stand-ins for what is not installed; then the dependencies are locked and installed, and the second runs the plugin for
real.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

import msgspec

from shared.errors import DependenciesUnavailable, FieldError, PackageIndexUnavailable, PluginRefused
from shared.packages import digest_of
from shared.packages.archive import PackageFiles, read_package
from shared.packages.environments import WHEELS_FOLDER, Environments
from shared.packages.inspection.inspector import Inspector
from shared.packages.inspection.report import Report
from shared.packages.inspection.rules import default_problems, dependency_problems, manifest_problems
from shared.packages.locks import LOCK_NAME, LockedPackage, lock_text, provided_problems, read_lock, unlocked
from shared.packages.logos import LOGO_NAME, logo_problems
from shared.packages.resolving import resolve
from shared.snapshots import PluginManifest


class PreparedPackage(msgspec.Struct, frozen=True):
    """`defaults` are the author's defaults of all settings, sensitive ones in the clear."""

    digest: str
    manifest: PluginManifest
    defaults: dict[str, object]
    lock: str
    has_logo: bool = False


class Preparation:
    def __init__(self, inspector: Inspector, environments: Environments, *, index_url: str | None) -> None:
        self._inspector = inspector
        self._environments = environments
        self._index_url = index_url

    async def prepare(self, data: bytes, *, owner: Hashable = None) -> PreparedPackage:
        """Raises BodyTooLarge, PluginRefused with every reason that could be found, PackageIndexUnavailable, and
        RateLimited when too much of this owner's, or of all, is under way.
        """
        with self._inspector.admission(owner):
            return await self._prepare(data)

    async def _prepare(self, data: bytes) -> PreparedPackage:
        package = await asyncio.to_thread(read_package, data)
        if problems := list(logo_problems(package.files)):
            raise refused(tuple(problems))
        digest = await asyncio.to_thread(digest_of, data)
        report = await self._inspector.inspect(package, digest)
        lock = await self._locked(package, report)
        if lock or not report.is_complete:
            report = await self._inspected_for_real(package, digest, lock, report)
        if report.manifest is None or report.findings:
            raise refused(report.findings or (FieldError("file", "inspection", "the plugin has no metadata"),))
        if problems := [*manifest_problems(report.manifest), *default_problems(report.manifest, report.defaults)]:
            raise refused(tuple(problems))
        return PreparedPackage(digest, report.manifest, report.defaults, lock, has_logo=LOGO_NAME in package.files)

    async def _locked(self, package: PackageFiles, report: Report) -> str:
        """The lock of what the first pass says is needed. Raises PluginRefused, PackageIndexUnavailable."""
        requires = report.manifest.requires if report.manifest else report.requires
        # Findings of a pass that is not complete may be the stand-ins' fault; those of a complete one are not.
        problems = list(report.findings) if report.is_complete else []
        problems += manifest_problems(report.manifest) if report.manifest else dependency_problems(requires)
        packages, wrong_lines = _own_lock(package)
        if problems or wrong_lines:
            raise refused((*problems, *wrong_lines))
        if unmet := [
            *provided_problems(requires),
            *(unlocked(requires, packages) if LOCK_NAME in package.files else ()),
        ]:
            raise refused(tuple(unmet))
        if LOCK_NAME in package.files:
            return lock_text(packages)
        async with self._wheels_of(package) as wheels, self._environments.workplaces.temporary("lock-") as home:
            try:
                return await resolve(requires, home=home, index_url=self._index_url, wheels=wheels)
            except PackageIndexUnavailable:
                raise
            except DependenciesUnavailable as error:
                raise refused((FieldError("dependencies", "unresolvable", error.detail),)) from None

    async def _inspected_for_real(self, package: PackageFiles, digest: str, lock: str, first: Report) -> Report:
        async with self._wheels_of(package) as wheels:
            try:
                environment = await self._environments.ensure(lock, wheels=wheels)
            except PackageIndexUnavailable:
                raise
            except DependenciesUnavailable as error:
                raise refused((FieldError("dependencies", "not_installable", error.detail),)) from None
        report = await self._inspector.inspect(package, digest, environment=environment)
        if report.manifest is not None and not report.findings:
            said = first.manifest.requires if first.manifest else first.requires
            if report.manifest.requires != said or (
                first.manifest and report.manifest.version != first.manifest.version
            ):
                message = "the metadata must be the same whenever it is asked for"
                return Report(findings=(FieldError("file", "metadata", message),))
        return report

    @asynccontextmanager
    async def _wheels_of(self, package: PackageFiles) -> AsyncIterator[Path | None]:
        """The wheels inside the package as a directory, None when it brings none."""
        wheels = {
            PurePosixPath(name).name: content
            for name, content in package.files.items()
            if PurePosixPath(name).match(f"{WHEELS_FOLDER}/*.whl") and name.count("/") == 1
        }
        if not wheels:
            yield None
            return
        async with self._environments.workplaces.temporary("wheels-") as directory:
            await asyncio.to_thread(lambda: [(directory / n).write_bytes(content) for n, content in wheels.items()])
            yield directory


def refused(reasons: tuple[FieldError, ...]) -> PluginRefused:
    return PluginRefused("; ".join(reason.message for reason in reasons)[:2000], errors=reasons)


def _own_lock(package: PackageFiles) -> tuple[list[LockedPackage], list[FieldError]]:
    """The lock inside the package; nothing when it has none."""
    content = package.files.get(LOCK_NAME, b"")
    try:
        return read_lock(content.decode())
    except UnicodeDecodeError:
        return [], [FieldError(LOCK_NAME, "encoding", f"{LOCK_NAME} is not UTF-8 text")]
