"""Dependency locks: `requirements.txt` lines with one exact version and its hashes each, and nothing else.

A lock decides what is downloaded and run, so its form is checked whoever wrote it: options, URLs and paths, which could
send the installer anywhere, do not parse.
"""

import re
from collections.abc import Iterator

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from shared.errors import FieldError
from shared.packages.platform_packages import platform_packages

LOCK_NAME = "requirements.lock"
MAX_LOCK_BYTES = 512 * 1024
MAX_LOCKED_PACKAGES = 200

_FIELD = LOCK_NAME
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)
_HASH_WORD = re.compile(r"\s--hash[=\s]")


class LockedPackage(msgspec.Struct, frozen=True):
    """`line` is the requirement without its hashes; `applies` whether its marker holds on this platform."""

    name: str
    version: Version
    line: str
    hashes: tuple[str, ...]
    applies: bool


def read_lock(text: str) -> tuple[list[LockedPackage], list[FieldError]]:
    """The packages of a lock without those the platform provides, and everything that is wrong with it."""
    if len(text) > MAX_LOCK_BYTES:
        return [], [_wrong("too_large", f"it is larger than {MAX_LOCK_BYTES // 1024} KiB")]
    packages: list[LockedPackage] = []
    problems: list[FieldError] = []
    for number, line in _logical_lines(text):
        package = _package(line)
        if isinstance(package, str):
            problems.append(_wrong("line", f"line {number}: {package}"))
        elif package.name not in platform_packages():
            packages.append(package)
    if len(packages) > MAX_LOCKED_PACKAGES:
        problems.append(
            _wrong("too_many", f"it has {len(packages)} packages, at most {MAX_LOCKED_PACKAGES} are allowed")
        )
    return packages, problems


def lock_text(packages: list[LockedPackage]) -> str:
    """One spelling for one lock, so that equal locks share an environment. Empty without packages."""
    return "".join(
        f"{package.line} \\\n" + " \\\n".join(f"    {digest}" for digest in sorted(set(package.hashes))) + "\n"
        for package in sorted(packages, key=lambda package: package.line)
    )


def unlocked(requires: tuple[str, ...], packages: list[LockedPackage]) -> Iterator[FieldError]:
    """Declared dependencies that a lock does not hold. What the platform provides is `provided_problems`'."""
    locked = {package.name: package.version for package in packages if package.applies}
    for requirement in applicable(requires):
        name = canonicalize_name(requirement.name)
        if name in platform_packages():
            continue
        if name not in locked:
            yield _wrong("missing", f"the dependency {requirement} is not in it")
        elif not requirement.specifier.contains(locked[name], prereleases=True):
            yield _wrong("missing", f"it has {name} {locked[name]}, which is not {requirement}")


def provided_problems(requires: tuple[str, ...]) -> Iterator[FieldError]:
    """Dependencies on another version than the one every plugin gets from the platform."""
    for requirement in applicable(requires):
        provided = platform_packages().get(canonicalize_name(requirement.name))
        if provided is not None and not requirement.specifier.contains(provided.version, prereleases=True):
            yield FieldError(
                "dependencies",
                "provided",
                f"the dependency {requirement} is not available: this platform has {provided.version}",
            )


def applicable(requires: tuple[str, ...]) -> list[Requirement]:
    """The requirements that hold on this platform."""
    requirements = map(Requirement, requires)
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations joined, by the number of their first one; without comments and empty ones."""
    started = 0
    parts: list[str] = []
    for number, line in enumerate(_COMMENT.sub("", text).splitlines(), start=1):
        started = started if parts else number
        parts.append(line.rstrip().removesuffix("\\").strip())
        if line.rstrip().endswith("\\"):
            continue
        if joined := " ".join(part for part in parts if part):
            yield started, joined
        parts = []
    if joined := " ".join(part for part in parts if part):
        yield started, joined


def _package(line: str) -> LockedPackage | str:
    """The package of one line, or what is wrong with the line."""
    shown = line[:100]
    head = _HASH_WORD.split(f"{line} ", maxsplit=1)[0].strip()
    hashes = line.removeprefix(head).split()
    if line.startswith("-"):
        return f"{shown!r}: options are not allowed"
    try:
        requirement = Requirement(head)
    except InvalidRequirement:
        return f"{shown!r} is not a line such as idna==3.10 --hash=sha256:…"
    if requirement.url:
        return f"{shown!r}: packages come from the package index, not from a URL or a path"
    pins = list(requirement.specifier)
    if len(pins) != 1 or pins[0].operator != "==" or pins[0].version.endswith("*"):
        return f"{shown!r}: a locked package has one exact version (name==1.2.3)"
    if not hashes or not all(_HASH.fullmatch(word) for word in hashes):
        return f"{shown!r}: each package needs its hashes, as `uv pip compile --generate-hashes` writes them"
    applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    name = canonicalize_name(requirement.name)
    return LockedPackage(name, Version(pins[0].version), _spelled(requirement), tuple(hashes), applies)


def _spelled(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    return f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}{marker}"


def _wrong(code: str, message: str) -> FieldError:
    return FieldError(_FIELD, code, f"{LOCK_NAME}: {message}")
