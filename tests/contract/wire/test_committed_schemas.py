"""The wire between the planes changes only together with its committed schema."""

from pathlib import Path

import pytest

import shared.contracts
from shared.contracts.generate import CONTRACTS, generate
from shared.events import ROUTING_KEYS, AnyEvent
from shared.events.topology import STREAM_SUBJECTS

HERE = Path(shared.contracts.__file__).parent


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_committed_schema_is_that_of_the_structs(name: str) -> None:
    assert (HERE / name).read_text() == generate(name), (
        "the wire changed: if that is meant, run `python -m shared.contracts`; older workers must still understand it"
    )


def test_no_schema_is_left_over() -> None:
    assert {path.name for path in HERE.glob("*.json")} == set(CONTRACTS)


def test_every_event_has_a_routing_key_that_brokers_know() -> None:
    tags = {kind.__struct_config__.tag for kind in AnyEvent.__args__}
    assert tags == set(ROUTING_KEYS)
    assert {key.partition(".")[0] + ".*" for key in ROUTING_KEYS} == set(STREAM_SUBJECTS)
