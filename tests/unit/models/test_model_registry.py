import msgspec
import pytest

from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from shared.errors import OrchestratorBuildFailed
from shared.frameworks import Provider
from shared.ids import new_id
from shared.secrets import SecretKeyring
from shared.snapshots import LLMConfigSnapshot
from tests.fakes.instances import API_KEY, KEYRING, llm_config_snapshot

URL = "https://models.example.com/v1"


@pytest.fixture
def registry() -> ModelRegistry:
    return ModelRegistry(ModelConnections(allow_private=False), KEYRING)


def test_instances_of_one_organization_share_a_client_until_the_last_lets_go(registry: ModelRegistry) -> None:
    org_id, config = new_id(), llm_config_snapshot(URL)
    first, second = registry.acquire(config, "m", org_id), registry.acquire(config, "m", org_id)
    assert first is second
    registry.release(first)
    assert registry.count == 1
    registry.release(second)
    assert registry.count == 0


@pytest.mark.parametrize("changed", [{"base_url": "https://other.example.com/v1"}, {"additional_config": {"seed": 1}}])
def test_another_address_or_other_options_are_another_client(
    registry: ModelRegistry, changed: dict[str, object]
) -> None:
    org_id, config = new_id(), llm_config_snapshot(URL)
    assert registry.acquire(config, "m", org_id) is not registry.acquire(
        msgspec.structs.replace(config, **changed), "m", org_id
    )


def test_another_key_model_or_organization_is_another_client(registry: ModelRegistry) -> None:
    org_id, config = new_id(), llm_config_snapshot(URL)
    clients = {
        registry.acquire(config, "m", org_id),
        registry.acquire(config, "m2", org_id),
        registry.acquire(llm_config_snapshot(URL, api_key="sk-another"), "m", org_id),
        registry.acquire(config, "m", new_id()),
    }
    assert len(clients) == 4


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (llm_config_snapshot("", provider=Provider.LITELLM), "names no base_url"),
        (llm_config_snapshot("http://127.0.0.1/v1"), "https"),
        (llm_config_snapshot("https://10.0.0.1/v1"), "private"),
        (llm_config_snapshot(URL, headers={"Authorization": "Bearer other"}), "additional_config"),
    ],
)
def test_what_an_admin_has_to_change_is_said(registry: ModelRegistry, config: LLMConfigSnapshot, says: str) -> None:
    with pytest.raises(OrchestratorBuildFailed, match=says) as caught:
        registry.acquire(config, "m", new_id())
    assert API_KEY not in caught.value.detail
    assert registry.count == 0


def test_a_key_sealed_for_another_row_does_not_open(registry: ModelRegistry) -> None:
    moved = msgspec.structs.replace(llm_config_snapshot(URL), id=new_id())
    with pytest.raises(OrchestratorBuildFailed, match="does not belong to its row"):
        registry.acquire(moved, "m", new_id())


def test_a_key_sealed_with_an_unknown_key_does_not_open() -> None:
    registry = ModelRegistry(ModelConnections(allow_private=False), SecretKeyring({"other": bytes(32)}))
    with pytest.raises(OrchestratorBuildFailed, match="does not hold"):
        registry.acquire(llm_config_snapshot(URL), "m", new_id())


def test_options_that_mean_nothing_here_do_not_stop_an_instance(registry: ModelRegistry) -> None:
    registry.acquire(llm_config_snapshot(URL, proxy="http://x", temperature=0), "m", new_id())
    assert registry.count == 1
