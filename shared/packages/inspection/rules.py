"""What a manifest must be for the catalogue to take it. All findings at once, in an author's words."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from cadence_sdk.decorators.settings_decorators import SETTING_TYPES, is_of_type
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from shared.errors import FieldError
from shared.snapshots import PluginManifest, is_sealed

MAX_PID_CHARS = 128
MAX_VERSION_CHARS = 64
MAX_NAME_CHARS = 200
MAX_DESCRIPTION_CHARS = 4000
MAX_PROMPT_CHARS = 32_000
MAX_DEPENDENCIES = 20
MAX_CAPABILITIES = 50
MAX_SETTINGS = 100
MAX_TOOLS = 100
MAX_SCHEMA_BYTES = 32 * 1024

_PID = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)+")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]*")
# What the wire formats of all model providers take as a function name.
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SETTING_KEY = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def manifest_problems(manifest: PluginManifest) -> list[FieldError]:
    return [
        *_identity(manifest),
        *_texts(manifest),
        *dependency_problems(manifest.requires),
        *_tools(manifest),
        *_settings(manifest),
    ]


def default_problems(manifest: PluginManifest, defaults: Mapping[str, Any]) -> Iterator[FieldError]:
    """The same for the defaults, which come beside the manifest because some of them are secret."""
    types = {str(setting.get("key")): str(setting.get("type")) for setting in manifest.settings_schema}
    for key, value in defaults.items():
        shown = key[:MAX_NAME_CHARS]
        if key not in types:
            yield FieldError("settings", "default", f"{shown!r} has a default but is no setting")
        elif types[key] in SETTING_TYPES and (not is_of_type(value, types[key]) or is_sealed(value)):
            yield FieldError("settings", "default", f"the default of {shown} is not of type {types[key]}")
        elif len(encoded := msgspec.json.encode(value)) > MAX_SCHEMA_BYTES or b"\\u0000" in encoded:
            yield FieldError("settings", "default", f"the default of {shown} is too long or holds a NUL character")


def domain_problems(pid: str, domain: str | None) -> Iterator[FieldError]:
    """An organization with a domain uploads only under it: `acme.io` owns `io.acme` and everything below."""
    if not domain:
        return
    prefix = ".".join(reversed(domain.casefold().split(".")))
    if pid.casefold() != prefix and not pid.casefold().startswith(f"{prefix}."):
        yield FieldError("pid", "foreign_domain", f"the pid must be {prefix} or begin with {prefix}., it is {pid}")


def _identity(manifest: PluginManifest) -> Iterator[FieldError]:
    if len(manifest.pid) > MAX_PID_CHARS or not _PID.fullmatch(manifest.pid):
        yield FieldError(
            "pid",
            "invalid",
            f"the pid must be a reverse domain name such as com.example.weather, at most {MAX_PID_CHARS} characters",
        )
    try:
        Version(manifest.version)
        is_version = len(manifest.version) <= MAX_VERSION_CHARS and bool(_VERSION.fullmatch(manifest.version))
    except InvalidVersion:
        is_version = False
    if not is_version:
        yield FieldError("version", "invalid", f"{manifest.version[:MAX_VERSION_CHARS]!r} is not a version like 1.2.3")


def _texts(manifest: PluginManifest) -> Iterator[FieldError]:
    for field, text, limit in (
        ("name", manifest.name, MAX_NAME_CHARS),
        ("description", manifest.description, MAX_DESCRIPTION_CHARS),
        ("system_prompt", manifest.system_prompt, MAX_PROMPT_CHARS),
        ("sdk_version", manifest.sdk_version, MAX_NAME_CHARS),
    ):
        if len(text) > limit:
            yield FieldError(field, "too_long", f"{field} has {len(text)} characters, at most {limit} are allowed")
    if len(manifest.capabilities) > MAX_CAPABILITIES:
        yield FieldError("capabilities", "too_many", f"at most {MAX_CAPABILITIES} capabilities are allowed")
    if any(len(capability) > MAX_NAME_CHARS for capability in manifest.capabilities):
        yield FieldError("capabilities", "too_long", f"a capability has at most {MAX_NAME_CHARS} characters")
    if b"\\u0000" in msgspec.json.encode(manifest):
        yield FieldError("file", "characters", "the NUL character is not allowed in any text")


def dependency_problems(requires: tuple[str, ...]) -> Iterator[FieldError]:
    if len(requires) > MAX_DEPENDENCIES:
        yield FieldError("dependencies", "too_many", f"{len(requires)} dependencies, at most {MAX_DEPENDENCIES}")
    for text in requires:
        shown = text[:MAX_NAME_CHARS]
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield FieldError(
                "dependencies",
                "invalid",
                f"{shown!r} is not a requirement such as requests>=2.28 (no paths, no options)",
            )
            continue
        if requirement.url:
            yield FieldError("dependencies", "url", f"{shown!r}: a dependency comes from the package index, not a URL")


def _tools(manifest: PluginManifest) -> Iterator[FieldError]:
    if len(manifest.tools) > MAX_TOOLS:
        yield FieldError("tools", "too_many", f"{len(manifest.tools)} tools, at most {MAX_TOOLS} are allowed")
    for tool in manifest.tools:
        shown = tool.name[:64]
        if not _TOOL_NAME.fullmatch(tool.name):
            yield FieldError("tools", "name", f"{shown!r}: a tool name has 1 to 64 letters, digits, _ or -")
        if len(tool.description) > MAX_DESCRIPTION_CHARS:
            yield FieldError(
                "tools", "too_long", f"{shown}: the description is over {MAX_DESCRIPTION_CHARS} characters"
            )
        if cycle := _cycle(tool.schema):
            yield FieldError(
                "tools",
                "recursive",
                f"{shown}: the schema of its arguments refers to itself ({cycle}), which not every model understands",
            )
        if len(msgspec.json.encode(tool.schema)) > MAX_SCHEMA_BYTES:
            yield FieldError(
                "tools", "too_long", f"{shown}: the schema of its arguments is over {MAX_SCHEMA_BYTES} bytes"
            )


def _cycle(schema: dict[str, Any]) -> str | None:
    """The name of a definition that is reached from itself."""
    definitions: dict[str, Any] = schema.get("$defs") or {}
    uses = {name: _references(definition) for name, definition in definitions.items()}
    uses["#"] = _references({key: value for key, value in schema.items() if key != "$defs"})
    for start in uses:
        reached: set[str] = set()
        waiting = set(uses[start])
        while waiting:
            name = waiting.pop()
            reached.add(name)
            waiting |= uses.get(name, set()) - reached
        if start in reached:
            return str(schema.get("title", "itself")) if start == "#" else start
    return None


def _references(schema: Any) -> set[str]:
    """The definitions that a schema names; "#" for itself as a whole."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                found.add(reference.removeprefix("#/$defs/"))
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def _settings(manifest: PluginManifest) -> Iterator[FieldError]:
    if len(manifest.settings_schema) > MAX_SETTINGS:
        yield FieldError("settings", "too_many", f"at most {MAX_SETTINGS} settings are allowed")
    for setting in manifest.settings_schema:
        key = setting.get("key")
        if not isinstance(key, str) or not _SETTING_KEY.fullmatch(key):
            yield FieldError("settings", "key", f"{str(key)[:100]!r}: a key has 1 to 100 letters, digits, _, . or -")
        if setting.get("type") not in tuple(SETTING_TYPES):
            yield FieldError("settings", "type", f"{str(key)[:100]}: the type is one of {', '.join(SETTING_TYPES)}")
        if len(msgspec.json.encode(setting)) > MAX_SCHEMA_BYTES:
            yield FieldError("settings", "too_long", f"{str(key)[:100]}: the setting is over {MAX_SCHEMA_BYTES} bytes")
