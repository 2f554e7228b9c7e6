"""Stand-ins for modules that are not installed, so that a plugin's metadata can be read before its dependencies are.

Whatever a plugin takes out of such a module while it is imported is a class that can be called, subclassed, used as a
decorator or an annotation, and that does nothing. The rest of the plugin is not run this way.
"""

import ast
import importlib.abc
import importlib.machinery
from abc import ABCMeta
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from pydantic_core import CoreSchema, core_schema

_MAX_SOURCE_BYTES = 1024 * 1024


class _StandInType(ABCMeta):
    """Makes the class itself answer: `module.Class.attribute`, `@module.decorator`, `module.f() | None`."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stand_in(name)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if _is_subclassed(cls):
            return super().__call__(*arguments, **named)
        # As a decorator it leaves what it decorates as it is.
        if len(arguments) == 1 and not named and callable(arguments[0]) and not isinstance(arguments[0], _StandInType):
            return arguments[0]
        return _stand_in(cls.__name__)

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __bool__(cls) -> bool:
        return True

    def __enter__(cls) -> Any:
        return cls

    def __exit__(cls, *error: object) -> None:
        return None


class _StandIn(metaclass=_StandInType):
    """Where pydantic meets one as a type, it takes any value."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.any_schema()


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            if name == "__version__":
                return "0"
            raise AttributeError(name)
        return _stand_in(name)


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last in `sys.meta_path`, so that it is asked only for what nobody else has. `used` are top-level names."""

    def __init__(self, own_prefix: str) -> None:
        self.used: set[str] = set()
        self._own_prefix = own_prefix

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = fullname.partition(".")[0]
        # A missing module of an installed package, or of the plugin itself, is a mistake and stays one.
        if top.startswith(self._own_prefix) or (path is not None and top not in self.used):
            return None
        self.used.add(top)
        # A package, so that whatever is imported below it is a stand-in too.
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


def declared_dependencies(source: bytes) -> tuple[str, ...] | None:
    """The dependencies that a `plugin.py` declares as a plain list in its metadata, read without running it.

    For plugins whose import does more with their dependencies than a stand-in can bear. None when it has no such list.
    """
    if len(source) > _MAX_SOURCE_BYTES:
        return None
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("PluginMetadata"):
            for keyword in node.keywords:
                if keyword.arg == "dependencies" and isinstance(keyword.value, ast.List | ast.Tuple):
                    return _strings(keyword.value)
    return None


def _strings(node: ast.List | ast.Tuple) -> tuple[str, ...] | None:
    values = [element.value for element in node.elts if isinstance(element, ast.Constant)]
    texts = tuple(value for value in values if isinstance(value, str))
    return texts if len(texts) == len(node.elts) else None


def _stand_in(name: str) -> _StandInType:
    return _StandInType(name, (_StandIn,), {})


def _is_subclassed(cls: type) -> bool:
    """Whether a plugin wrote this class itself, on top of a stand-in."""
    return any(base is not _StandIn and isinstance(base, _StandInType) for base in cls.__mro__[1:])
