import importlib
import importlib.machinery
import importlib.util
import inspect
import itertools
import sys
from pathlib import Path

from cadence_sdk.base.plugin import BasePlugin
from cadence_sdk.testing.errors import PluginRefused

_numbers = itertools.count(1)


def load_plugin(folder: str | Path) -> type[BasePlugin]:
    """The plugin of `folder/plugin.py`: its first concrete subclass of BasePlugin.

    Modules beside it can be imported absolutely and relatively, as on the platform; for the former the folder stays on
    `sys.path`. Each call runs `plugin.py` anew. Raises PluginRefused when there is no plugin, and what its code raises.
    """
    folder = Path(folder).resolve()
    if not (folder / "plugin.py").is_file():
        raise PluginRefused([f"there is no plugin.py in {folder}"])
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    root = f"_cadence_testing_{next(_numbers)}_{folder.name}"
    spec = importlib.machinery.ModuleSpec(root, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[root] = importlib.util.module_from_spec(spec)
    module = importlib.import_module(f"{root}.plugin")
    found: list[type[BasePlugin]] = [
        c for c in vars(module).values() if _is_plugin(c) and _is_below(c.__module__, root, folder)
    ]
    # A class that plugin.py imports from a module beside it counts after those it defines itself.
    found.sort(key=lambda c: c.__module__ != module.__name__)
    if not found:
        raise PluginRefused(["plugin.py has no concrete subclass of cadence_sdk.BasePlugin"])
    return found[0]


def _is_plugin(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BasePlugin) and not inspect.isabstract(value)


def _is_below(module_name: str, root: str, folder: Path) -> bool:
    if module_name.startswith(f"{root}."):
        return True
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder)
