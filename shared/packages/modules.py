"""A package's modules in this process, under a private name that nothing else can import by accident.

Each `PackageModules` has a root name of its own, so two versions of a plugin, or two tenants' plugins of the same pid,
never meet. Inside a package, `import x` finds a module beside `plugin.py` first: the modules run with an `__import__`
of their own, and neither `sys.path` nor a public name in `sys.modules` is touched. Relative imports work as they are.
"""

import builtins
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT_PREFIX = "_cadence_package_"
# Authors may vendor anything but the SDK: two copies of BasePlugin would not know each other's subclasses.
_NEVER_OWN = frozenset({"cadence_sdk"})

_numbers = itertools.count(1)


class PackageModules:
    """The modules of one unpacked package. `folder` is the package's own folder name, which its modules may use too."""

    def __init__(self, directory: Path, digest: str, *, folder: str = "") -> None:
        self.root = f"{ROOT_PREFIX}{digest[:16]}_{next(_numbers)}"
        self._directory = directory
        self._folder = folder
        self._own_names = _top_names(directory) - _NEVER_OWN
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str = "plugin") -> ModuleType:
        """Import a module of the package. Raises whatever its code raises. May block or never return: run it where that
        is affordable.
        """
        _finder.packages[self.root] = self
        return importlib.import_module(f"{self.root}.{name}")

    def unload(self) -> None:
        """Let go of every module. They are freed as soon as nobody holds an object of theirs."""
        _finder.packages.pop(self.root, None)
        for name in [n for n in list(sys.modules) if n == self.root or n.startswith(f"{self.root}.")]:
            sys.modules.pop(name, None)

    def owns(self, module_name: str) -> bool:
        return module_name == self.root or module_name.startswith(f"{self.root}.")

    def find_spec(self, fullname: str) -> importlib.machinery.ModuleSpec | None:
        """The spec of one of the package's modules: `x.py`, or a folder with or without `__init__.py`."""
        base = self._directory.joinpath(*fullname.split(".")[1:])
        as_file, as_package = base.with_name(f"{base.name}.py"), base / "__init__.py"
        if base != self._directory and as_file.is_file():
            return self._spec(fullname, as_file, is_package=False)
        if as_package.is_file():
            return self._spec(fullname, as_package, is_package=True)
        return self._spec(fullname, None, is_package=True) if base.is_dir() else None

    def _spec(self, fullname: str, path: Path | None, *, is_package: bool) -> importlib.machinery.ModuleSpec:
        spec = importlib.machinery.ModuleSpec(
            fullname, _SourceLoader(path, self._builtins), origin=str(path) if path else None, is_package=is_package
        )
        spec.has_location = path is not None
        # An empty search path: everything below is found by our finder, never by the one that walks directories.
        return spec

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What `import` means in this package: its own modules first, then everybody's."""
        own = self._private_name(name) if level == 0 else None
        if own is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if fromlist:
            return builtins.__import__(own, globals, locals, fromlist, 0)
        importlib.import_module(own)
        # `import a.b` binds `a`.
        return sys.modules[self._private_name(name.partition(".")[0]) or own]

    def _private_name(self, name: str) -> str | None:
        head, _, rest = name.partition(".")
        if head in self._own_names:
            return f"{self.root}.{name}"
        if head == self._folder and head not in _NEVER_OWN:
            return f"{self.root}.{rest}" if rest else self.root
        return None


class _SourceLoader(importlib.abc.Loader):
    """Runs a module's source with the package's builtins. Writes no bytecode: the directory may be read-only."""

    def __init__(self, path: Path | None, package_builtins: dict[str, Any]) -> None:
        self._path = path
        self._builtins = package_builtins

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if self._path is None:
            return
        module.__dict__["__builtins__"] = self._builtins
        exec(self._code(), module.__dict__)  # noqa: S102 - running a plugin's code is the purpose

    def get_source(self, fullname: str) -> str | None:
        """For tracebacks."""
        return importlib.util.decode_source(self._path.read_bytes()) if self._path else None

    def _code(self) -> CodeType:
        assert self._path is not None  # noqa: S101 - checked by the caller
        source = importlib.util.decode_source(self._path.read_bytes())
        return compile(source, str(self._path), "exec", dont_inherit=True)


class _Finder:
    """The one entry in `sys.meta_path`; it answers for private names only."""

    def __init__(self) -> None:
        self.packages: dict[str, PackageModules] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package = self.packages.get(fullname.partition(".")[0])
        return package.find_spec(fullname) if package else None


def _top_names(directory: Path) -> frozenset[str]:
    """The modules and packages beside `plugin.py`."""
    return frozenset(
        entry.stem if entry.suffix == ".py" else entry.name
        for entry in directory.iterdir()
        if entry.suffix == ".py" or entry.is_dir()
    )


_finder = _Finder()
sys.meta_path.append(_finder)
