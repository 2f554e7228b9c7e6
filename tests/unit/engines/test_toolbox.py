import re

from runtime_worker.engines.toolbox import Toolbox
from runtime_worker.plugins.base import PluginTool
from tests.fakes.plugin_bundle import FunctionBundle


class NamedTools(FunctionBundle):
    """A bundle whose tools have exactly these names."""

    def __init__(self, pid: str, *names: str) -> None:
        super().__init__(pid)
        self.tools = tuple(PluginTool(pid, name, "", {}) for name in names)


def offered(*bundles: FunctionBundle, reserved: tuple[str, ...] = ()) -> dict[str, str]:
    toolbox = Toolbox(bundles, reserved=reserved)
    found = {name: toolbox.find(name) for name in toolbox.names}
    return {name: tool.reported for name, tool in found.items() if tool}


def test_a_tool_keeps_its_name_when_nobody_else_has_it() -> None:
    assert offered(NamedTools("com.a.calc", "add")) == {"add": "com.a.calc.add"}


def test_tools_that_share_a_name_get_their_plugins_name_in_front() -> None:
    names = offered(NamedTools("com.a.calc", "add", "sub"), NamedTools("com.a.lists", "add"))
    assert names == {"calc__add": "com.a.calc.add", "sub": "com.a.calc.sub", "lists__add": "com.a.lists.add"}


def test_plugins_that_share_their_short_name_too_are_still_told_apart() -> None:
    names = offered(NamedTools("com.a.calc", "add"), NamedTools("com.b.calc", "add"))
    assert set(names.values()) == {"com.a.calc.add", "com.b.calc.add"}
    assert len(names) == 2


def test_a_tool_cannot_take_the_name_of_a_signal() -> None:
    assert offered(NamedTools("com.a.calc", "facilitator"), reserved=("facilitator",)) == {
        "calc__facilitator": "com.a.calc.facilitator"
    }


def test_every_name_is_one_that_providers_accept() -> None:
    names = offered(
        NamedTools("com.a.calc", "größe messen", "x" * 100, "x" * 100 + "y", ""), NamedTools("com.b.ü", "x" * 100)
    )
    assert len(names) == 5
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)


def test_a_prefixed_name_that_somebody_has_already_is_not_given_twice() -> None:
    names = offered(NamedTools("com.x.y", "calc__add"), NamedTools("com.a.calc", "add"), NamedTools("com.b.z", "add"))
    assert len(names) == 3
