from shared.config_hash import canonical_json, config_hash
from shared.ids import new_id, new_session_id, parse_id


def test_ids_of_one_process_sort_in_the_order_they_were_made() -> None:
    made = [new_id() for _ in range(1000)]

    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert {i.version for i in made} == {7}


def test_session_ids_are_ulids() -> None:
    assert len(new_session_id()) == 26
    assert new_session_id() != new_session_id()


def test_an_id_that_does_not_parse_is_no_id() -> None:
    some = new_id()

    assert parse_id(str(some)) == some
    assert [parse_id(text) for text in ("", "x", "1234", "None")] == [None] * 4


def test_the_hash_sees_values_and_not_how_they_are_written() -> None:
    one, other = {"b": [1, "ü"], "a": None}, {"a": None, "b": [1, "ü"]}

    assert config_hash(one) == config_hash(other)
    assert config_hash(one) != config_hash({**one, "a": 0})
    assert canonical_json(one) == '{"a":null,"b":[1,"ü"]}'.encode()
    assert len(config_hash(one)) == 64
