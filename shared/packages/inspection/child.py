"""The throw-away process that runs a package once to learn what is in it. Started by `inspector.Inspector` only.

It trusts nothing that comes after `confine`: from there on the plugin may do to this process what it likes. Its report
is taken as the plugin's own word about itself, and checked again by whoever reads it.
"""

import gc
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cadence_sdk import BaseAgent, BasePlugin, BaseScopedAgent, BaseSpecializedAgent, UvTool
from cadence_sdk.decorators.settings_decorators import get_plugin_settings_schema
from cadence_sdk.utils.validation import check_agent, validate_plugin_structure_shallow
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from shared.errors import FieldError
from shared.packages.archive import ENTRY_POINT
from shared.packages.contents import describe_tools, find_plugin_class
from shared.packages.inspection.report import Line, Report, Stage
from shared.packages.inspection.stand_ins import StandIns, declared_dependencies
from shared.packages.modules import ROOT_PREFIX, PackageModules
from shared.security.confinement import Limits, confine, interpreter_paths
from shared.snapshots import PluginManifest, ToolDescription

PLACEHOLDERS: dict[str, Any] = {"str": "", "int": 0, "float": 0.0, "bool": False, "list": [], "dict": {}}
"""Stand in for required settings that only an instance will have."""

_OURS = ("shared",)
_ESSENTIAL_WALLS = ("files", "system calls")
_UNCONFINED = "plugins cannot be inspected on this server, whose kernel does not restrict: "
_SETTING_FIELDS = ("key", "name", "type", "description", "required", "sensitive", "default")


class Task(msgspec.Struct, frozen=True):
    """What to inspect: the unpacked package (read-only to it), a directory it may write to, and its limits.

    `base` and `environment` are what it may import (`shared.packages.environments`), `provided` the names of the
    packages of the base. Without an environment stand-ins take the place of what is missing. With `needs_walls` nothing
    of the package is run where the kernel cannot shut it in.
    """

    package: Path
    folder: str
    digest: str
    workspace: Path
    limits: Limits
    base: Path
    provided: tuple[str, ...] = ()
    environment: Path | None = None
    needs_walls: bool = False


def main() -> None:
    task = msgspec.json.decode(sys.argv[1], type=Task, dec_hook=lambda kind, value: kind(value))
    # What the plugin prints goes to standard error; the report has a descriptor of its own, where no print can reach.
    channel = os.dup(1)
    os.dup2(2, 1)
    sys.stdin.close()
    _close_imports(task)
    # What is there by now stays.
    gc.freeze()
    gc.enable()
    own = [path.resolve() for path in task.base.iterdir()]
    places = [task.base, *own, task.package, *([task.environment] if task.environment else [])]
    missing = confine(task.limits, readable=[*interpreter_paths(), *places], writable=task.workspace)

    def tell(line: Line) -> None:
        remaining = msgspec.json.encode(line) + b"\n"
        while remaining:
            remaining = remaining[os.write(channel, remaining) :]

    try:
        tell(Stage("starting the inspection", tuple(missing)))
        if task.needs_walls and (essential := [wall for wall in missing if wall in _ESSENTIAL_WALLS]):
            tell(Report(findings=(FieldError("file", "unconfined", _UNCONFINED + ", ".join(essential)),)))
        else:
            tell(Inspection(task, tell).run())
    finally:
        # No exit handlers and no waiting for threads: both are the plugin's.
        os._exit(0)


def _close_imports(task: Task) -> None:
    """Leave what a plugin finds where it runs: the standard library, its environment, the base. Nothing of ours."""
    root = str(Path(__file__).parents[3])
    sys.path[:] = [path for path in sys.path if path not in (root, str(task.base))]
    sys.path += [*([str(task.environment)] if task.environment else []), str(task.base)]
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]


class Inspection:
    """One run over one package. Every finding is gathered; a step is left out only when it has nothing to work on."""

    def __init__(self, task: Task, tell: Callable[[Line], None]) -> None:
        self._task = task
        self._tell = tell
        self._modules = PackageModules(task.package, task.digest, folder=task.folder)
        self._stand_ins = StandIns(ROOT_PREFIX)
        self._findings: list[FieldError] = []

    def run(self) -> Report:
        if self._task.environment is None:
            sys.meta_path.append(self._stand_ins)
        module = self._attempt("importing plugin.py", self._modules.load)
        if module is None:
            return self._report_of_import()
        plugin = find_plugin_class(module, self._modules)
        if plugin is None:
            self._find("no_plugin", "plugin.py has no concrete subclass of cadence_sdk.BasePlugin")
            return self._report()
        _, problems = self._attempt("reading its metadata", lambda: validate_plugin_structure_shallow(plugin)) or (
            False,
            [],
        )
        for problem in problems:
            self._find("structure", problem)
        if self._findings:
            return self._report()
        metadata, schema = plugin.get_metadata(), get_plugin_settings_schema(plugin)
        manifest = PluginManifest(
            pid=str(metadata.pid),
            version=str(metadata.version),
            name=str(metadata.name),
            description=str(metadata.description),
            capabilities=tuple(map(str, metadata.capabilities)),
            requires=tuple(map(str, metadata.dependencies)),
            sdk_version=str(metadata.sdk_version),
            stateless=bool(metadata.stateless),
            settings_schema=tuple(_shown_setting(s) for s in schema),
        )
        defaults = {s["key"]: s["default"] for s in schema if s.get("default") is not None}
        if self._stand_ins.used or (self._task.environment is None and self._needs_more(manifest.requires)):
            return Report(manifest, defaults, is_complete=False, requires=manifest.requires)
        return self._inspected(plugin, manifest, schema, defaults)

    def _inspected(
        self,
        plugin: type[BasePlugin],
        manifest: PluginManifest,
        schema: list[dict[str, Any]],
        defaults: dict[str, Any],
    ) -> Report:
        for reason in self._attempt("checking its dependencies", plugin.validate_dependencies) or []:
            self._find("dependency", f"validate_dependencies() says: {reason}")
        tools: list[UvTool] = []
        agent = self._attempt("creating its agent", plugin.create_agent)
        if isinstance(agent, BaseAgent):
            tools = self._tools(agent, schema)
        elif agent is not None or not self._findings:
            self._find("structure", f"create_agent() must return a BaseAgent, it returned {type(agent).__name__}")
        described = self._attempt("describing its tools", lambda: _encodable(describe_tools(tools)))
        if self._findings:
            return self._report()
        manifest = msgspec.structs.replace(
            manifest,
            is_specialized=isinstance(agent, BaseSpecializedAgent),
            is_scoped=isinstance(agent, BaseScopedAgent),
            tools=described,
            system_prompt=self._prompt(agent),
        )
        return Report(manifest, defaults)

    def _needs_more(self, requires: tuple[str, ...]) -> bool:
        """Whether something is declared that the platform does not provide; a form that is wrong is judged later."""
        try:
            return any(canonicalize_name(Requirement(text).name) not in self._task.provided for text in requires)
        except InvalidRequirement:
            return True

    def _report_of_import(self) -> Report:
        """A failed import. When the plugin had to do with stand-ins, that may be why, so it gets a second try."""
        if self._stand_ins.used:
            source = (self._task.package / ENTRY_POINT).read_bytes()
            requires = self._attempt("reading its dependencies", lambda: declared_dependencies(source))
            if requires:
                return Report(findings=tuple(self._findings), is_complete=False, requires=requires)
        return self._report()

    def _tools(self, agent: BaseAgent, schema: list[dict[str, Any]]) -> list[UvTool]:
        """The agent's tools after `initialize` with the defaults.

        When a required setting has no default, initialize gets a placeholder that it may well refuse. That, and tools
        that cannot be listed because of it, is no fault of the plugin: they are known once an instance has settings.
        """
        config = {s["key"]: s["default"] for s in schema if s.get("default") is not None}
        unknown = {s["key"]: PLACEHOLDERS[s["type"]] for s in schema if s.get("required") and s["key"] not in config}
        before = len(self._findings)
        self._attempt("initializing its agent", lambda: agent.initialize({**config, **unknown}))
        is_initialized = len(self._findings) == before
        problems: list[str] = []
        tools: list[UvTool] = self._attempt("listing its tools", lambda: check_agent(agent, problems)) or []
        if unknown and not is_initialized:
            del self._findings[before:]
            return tools
        for problem in problems:
            self._find("structure", problem)
        return tools

    def _prompt(self, agent: Any) -> str:
        if not isinstance(agent, BaseSpecializedAgent):
            return ""
        try:
            return str(agent.get_system_prompt())
        except Exception:
            # `check_agent` has reported it, unless the agent could not be initialized: then there is none to show yet.
            return ""

    def _attempt(self, doing: str, step: Callable[[], Any]) -> Any:
        """The step's result; None and a finding when the author's code raised anything at all, an exit included."""
        self._tell(Stage(doing))
        try:
            return step()
        except BaseException as error:
            self._find("raised", self._explain(doing, error))
            return None

    def _explain(self, doing: str, error: BaseException) -> str:
        if isinstance(error, SyntaxError):
            name = Path(error.filename or "plugin.py").name
            line = f", line {error.lineno}" if error.lineno else ""
            return f"{name}{line}: {error.msg}"
        where = self._location(error)
        match error:
            case SystemExit():
                return f"{doing} ends the process (sys.exit){where}"
            case ModuleNotFoundError() if error.name and not self._modules.owns(error.name):
                top = error.name.partition(".")[0]
                if top in sys.modules:
                    return f"{doing} needs the module {error.name!r}, which is not in the installed package{where}"
                return f"{doing} needs the module {top!r}, which none of its declared dependencies brings{where}"
            case MemoryError():
                return f"{doing} needs more than {self._task.limits.memory_bytes // 1024**2} MiB of memory{where}"
            case PermissionError():
                return f"{doing} tried something that a plugin may not do while it is inspected: {error}{where}"
            case _:
                return f"{doing} raised {type(error).__name__}: {error}{where}"

    def _location(self, error: BaseException) -> str:
        """The last line of the package's own code that the error came through."""
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(self._task.package))
        ]
        if not frames:
            return ""
        return f" ({Path(frames[-1].filename).relative_to(self._task.package)}, line {frames[-1].lineno})"

    def _find(self, code: str, message: str) -> None:
        self._findings.append(FieldError("file", code, message[:1000]))

    def _report(self) -> Report:
        return Report(findings=tuple(self._findings))


def _encodable(described: tuple[ToolDescription, ...]) -> tuple[ToolDescription, ...]:
    """The same; raises for schemas that are no JSON, such as one that holds itself."""
    msgspec.json.encode(described)
    return described


def _shown_setting(setting: dict[str, Any]) -> dict[str, Any]:
    shown = {key: setting[key] for key in _SETTING_FIELDS if key in setting}
    if shown.get("sensitive"):
        shown.pop("default", None)
    return {"required": False, "sensitive": False, **shown}
