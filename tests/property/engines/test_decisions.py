"""A decision is found in whatever a model wrote around it, and nothing that is none is taken for one."""

import json

from hypothesis import given
from hypothesis import strategies as st

from runtime_worker.engines.modes.coordinator import Route, agent_names, route_question
from runtime_worker.engines.modes.decisions import Verdict
from runtime_worker.engines.modes.grounded import SUPPORT

prose = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=40)
ROUTING = route_question(agent_names(["com.acme.calc", "com.acme.lists"]))


@given(before=prose, after=prose, is_valid=st.booleans(), reasons=st.lists(st.text(max_size=20), max_size=3))
def test_prose_and_fences_around_a_decision_do_not_hide_it(
    before: str, after: str, is_valid: bool, reasons: list[str]
) -> None:
    wrapped = json.dumps({"is_valid": is_valid, "reasons": reasons})
    expected = Verdict(is_valid, reasons)
    assert SUPPORT.read(f"{before}```json\n{wrapped}\n```{after}") == (expected, "")
    assert SUPPORT.read(before + wrapped + after) == (expected, "")


@given(st.text(max_size=300))
def test_reading_never_fails(text: str) -> None:
    decision, complaint = SUPPORT.read(text)
    assert (decision is None) == bool(complaint)


def test_an_object_of_another_form_does_not_hide_the_one_behind_it() -> None:
    assert SUPPORT.read('{"note": {}} so: {"is_valid": "true"}') == (Verdict(is_valid=True), "")
    assert SUPPORT.read('{ not json {"is_valid": 0}') == (Verdict(is_valid=False), "")
    assert SUPPORT.read("{" * 100_000)[0] is None


def test_an_agent_that_does_not_exist_is_told_with_those_that_do() -> None:
    decision, complaint = ROUTING.read('{"next": "weather", "task": ""}')
    assert decision is None
    assert "'weather'" in complaint
    assert "calc, lists" in complaint


def test_names_are_read_as_models_write_them() -> None:
    for name in ("calc", "CALC", " calc ", "com.acme.calc", "finish", "FINISH"):
        assert ROUTING.read(json.dumps({"next": name, "task": "t"})) == (Route(name, "t"), "")
