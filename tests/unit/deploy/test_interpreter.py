import sys
import sysconfig
from pathlib import Path

import pytest

from deploy.stack import interpreter
from deploy.stack.interpreter import better_one, is_optimised


def built(monkeypatch: pytest.MonkeyPatch, *, prefix: str, arguments: str | None) -> None:
    monkeypatch.setattr(sys, "base_prefix", prefix)
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": arguments}.get)


@pytest.mark.parametrize(
    ("prefix", "arguments", "is_it"),
    [
        ("/usr", "'--enable-shared'", True),
        ("/opt/python", "'--enable-shared' '--enable-optimizations' '--with-lto'", True),
        ("/home/me/.pyenv/versions/3.12.1", "'--enable-shared'", False),
        ("/home/me/.pyenv/versions/3.12.1", None, False),
    ],
)
def test_an_interpreter_tells_how_it_was_built(
    prefix: str, arguments: str | None, is_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(monkeypatch, prefix=prefix, arguments=arguments)
    assert is_optimised() is is_it


@pytest.mark.parametrize(("oldest", "is_there"), [((3, 0), True), ((99, 0), False)])
def test_a_better_interpreter_is_new_enough_or_none(
    oldest: tuple[int, int], is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Path(sys.executable)
    monkeypatch.setattr(interpreter, "_SYSTEM", system)
    monkeypatch.setattr(interpreter, "OLDEST", oldest)
    built(monkeypatch, prefix="/opt/slow", arguments="")
    assert better_one() == (system if is_there else None)
    built(monkeypatch, prefix="/usr", arguments="")
    assert better_one() is None
