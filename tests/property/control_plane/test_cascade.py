"""The cascade against its rule told the other way round: from the instance up, ending at the topmost fixed tier."""

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from control_plane.settings.cascade import Cascade, TierValue, effective, is_other, require_free
from shared.errors import SettingFixed
from shared.frameworks import Mode

KEY = "max_tool_rounds"
LLM_CONFIG = str(UUID(int=0))
values = st.integers(1, 50)
tiers = st.none() | st.builds(TierValue, value=st.just(UNSET) | values, is_overridable=st.booleans())


def cascade(of_everyone: TierValue | None, of_organization: TierValue | None) -> Cascade:
    return Cascade(*({KEY: said} if said else {} for said in (of_everyone, of_organization)))


@given(of_everyone=tiers, of_organization=tiers, own=st.none() | values)
def test_the_lowest_tier_that_says_something_wins_unless_one_above_it_is_fixed(
    of_everyone: TierValue | None, of_organization: TierValue | None, own: int | None
) -> None:
    said: list[tuple[str, Any]] = [("default", 3)]
    for source, tier in (("global", of_everyone), ("organization", of_organization)):
        if tier is not None:
            said.append((source, tier.value))
            if not tier.is_overridable:
                break
    else:
        said.append(("instance", UNSET if own is None else own))
    source, value = next(pair for pair in reversed(said) if pair[1] is not UNSET)

    raw = {"default_llm_config_id": LLM_CONFIG, "mode_config": {} if own is None else {KEY: own}}
    found = effective(Mode.SUPERVISOR, raw, cascade(of_everyone, of_organization))
    assert (found.config["mode_config"][KEY], found.resolved[KEY].source) == (value, source)


@given(was=st.tuples(tiers, tiers), will_be=st.tuples(tiers, tiers), own=st.none() | values)
def test_a_change_concerns_exactly_who_comes_to_something_else(
    was: tuple[TierValue | None, TierValue | None],
    will_be: tuple[TierValue | None, TierValue | None],
    own: int | None,
) -> None:
    before, after = cascade(*was), cascade(*will_be)
    raw = {"default_llm_config_id": LLM_CONFIG, "mode_config": {} if own is None else {KEY: own}}
    differs = effective(Mode.SUPERVISOR, raw, before).config != effective(Mode.SUPERVISOR, raw, after).config
    assert is_other(Mode.SUPERVISOR, raw, [KEY], before, after) == differs
    assert not is_other(Mode.SUPERVISOR, raw, ["run_timeout"], before, after)


@given(of_everyone=tiers, of_organization=tiers, own=values)
def test_an_instance_may_say_exactly_what_then_is_so(
    of_everyone: TierValue | None, of_organization: TierValue | None, own: int
) -> None:
    above = cascade(of_everyone, of_organization)
    raw = {"default_llm_config_id": LLM_CONFIG, "mode_config": {KEY: own}}
    try:
        require_free(Mode.SUPERVISOR, raw, above)
    except SettingFixed:
        may_say = False
    else:
        may_say = True
    assert may_say == (effective(Mode.SUPERVISOR, raw, above).config["mode_config"][KEY] == own)
