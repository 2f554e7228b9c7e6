from typing import Any

import pytest

from runtime_worker.engines.choices import model_key, model_keys, typed_config
from shared.errors import OrchestratorBuildFailed
from tests.fakes.instances import instance_snapshot, llm_config_snapshot

DEFAULT = llm_config_snapshot("http://a/v1", model_name="a-default")
OTHER = llm_config_snapshot("http://b/v1", model_name="b-default")
UNNAMED = llm_config_snapshot("http://c/v1", model_name=None)


def chosen(node: dict[str, Any], **config: Any) -> tuple[object, str]:
    snapshot = instance_snapshot(DEFAULT, OTHER, UNNAMED, mode_config={"synthesizer_node": node}, **config)
    typed = typed_config(snapshot)
    return model_key(snapshot, typed, dict(typed.nodes())["synthesizer_node"])


def test_a_node_inherits_what_it_does_not_set() -> None:
    assert chosen({}) == (DEFAULT.id, "a-default")
    assert chosen({}, default_model_name="big") == (DEFAULT.id, "big")


def test_a_nodes_own_name_comes_first() -> None:
    assert chosen({"model_name": "own"}, default_model_name="big") == (DEFAULT.id, "own")


def test_another_credential_brings_its_own_model_name() -> None:
    assert chosen({"llm_config_id": str(OTHER.id)}, default_model_name="big") == (OTHER.id, "b-default")
    assert chosen({"llm_config_id": str(UNNAMED.id)}, default_model_name="big") == (UNNAMED.id, "big")


def test_a_missing_name_is_said_before_anything_is_built() -> None:
    with pytest.raises(OrchestratorBuildFailed, match="no model name"):
        model_keys(instance_snapshot(UNNAMED))


def test_the_pool_learns_every_model_it_has_to_acquire() -> None:
    snapshot = instance_snapshot(
        DEFAULT, OTHER, mode_config={"supervisor_node": {"llm_config_id": str(OTHER.id), "model_name": "router"}}
    )
    assert model_keys(snapshot) == {(DEFAULT.id, "a-default"), (OTHER.id, "router")}
