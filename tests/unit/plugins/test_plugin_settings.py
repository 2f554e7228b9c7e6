"""Settings: typed, sealed, masked, carried over, opened only by a worker."""

from typing import Any

import msgspec
import pytest

from control_plane.plugins.catalogue import CatalogueEntry
from control_plane.plugins.settings import MASK, PluginSettings, effective, masked
from runtime_worker.plugins.settings import opened_settings
from shared.errors import PluginLoadFailed, PluginSettingsInvalid
from shared.ids import new_id
from shared.secrets import SecretKeyring
from shared.security.data_keys import DataKeyring
from shared.snapshots import PluginManifest, PluginSnapshot

KEYRING = DataKeyring({new_id(): bytes(32)}, older=SecretKeyring({}))
RULES = PluginSettings(KEYRING)
INSTANCE = new_id()
CANARY = "canary-4711"
SCHEMA = (
    {"key": "units", "type": "str", "description": "d"},
    {"key": "limit", "type": "int", "description": "d"},
    {"key": "token", "type": "str", "description": "d", "sensitive": True},
    {"key": "pages", "type": "list", "description": "d"},
)


def entry(version: str = "1.0.0", schema: Any = SCHEMA, **fields: Any) -> CatalogueEntry:
    plugin_id = fields.pop("id", new_id())
    known: dict[str, Any] = {
        "id": plugin_id,
        "source": "org",
        "org_id": new_id(),
        "pid": "com.acme.weather",
        "version": version,
        "digest": "d" * 64,
        "package_key": "key",
        "manifest": PluginManifest("com.acme.weather", version, "n", "d", settings_schema=tuple(schema)),
        "default_settings": {},
        "enabled": True,
        "is_latest": True,
        "trusted": False,
    }
    return CatalogueEntry(**{**known, **fields})


def checked(plugin: CatalogueEntry, given: dict[str, Any], stored: dict[str, Any] | None = None) -> dict[str, Any]:
    result = RULES.checked(INSTANCE, [plugin], {plugin.key: given}, {plugin.key: stored or {}})
    return result.get(plugin.key, {})


def opened(plugin: CatalogueEntry, settings: dict[str, Any]) -> dict[str, Any]:
    names = set(PluginSnapshot.__struct_fields__) & set(CatalogueEntry.__struct_fields__)
    fields = {name: getattr(plugin, name) for name in names}
    snapshot = PluginSnapshot(plugin_id=plugin.id, settings=effective(plugin, settings), **fields)
    return opened_settings(snapshot, INSTANCE, KEYRING)


def problems(plugin: CatalogueEntry, given: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(PluginSettingsInvalid) as refusal:
        RULES.checked(INSTANCE, [plugin], given, {})
    return [(error.field, error.code) for error in refusal.value.errors]


def test_a_secret_is_sealed_for_its_place_and_only_a_worker_opens_it() -> None:
    plugin = entry()

    stored = checked(plugin, {"units": "C", "token": CANARY})

    assert CANARY not in str(stored)
    assert masked(stored) == {"units": "C", "token": MASK}
    assert opened(plugin, stored) == {"units": "C", "token": CANARY}
    with pytest.raises(PluginLoadFailed):
        opened(entry(version="2.0.0"), stored)


def test_a_mask_sent_back_keeps_the_stored_secret() -> None:
    plugin = entry()
    stored = checked(plugin, {"token": CANARY, "limit": 1})

    again = checked(plugin, {"token": MASK, "limit": 2}, stored)

    assert again == {"token": stored["token"], "limit": 2}


def test_null_goes_back_to_the_default() -> None:
    plugin = entry(default_settings={"limit": 5})

    stored = checked(plugin, {"limit": None}, {"limit": 9})

    assert effective(plugin, stored) == {"limit": 5}


def test_every_wrong_key_is_named() -> None:
    plugin = entry()
    given = {"limit": True, "units": 3, "pages": {}, "speed": 1, "token": {"$sealed": "forged"}}
    key = f"plugin_settings.{plugin.key}"

    assert problems(plugin, {plugin.key: given, "com.other": {}, "org:x": "text"}) == [
        (f"{key}.limit", "type"),
        (f"{key}.units", "type"),
        (f"{key}.pages", "type"),
        (f"{key}.speed", "unknown"),
        (f"{key}.token", "type"),
        ("plugin_settings.com.other", "unknown"),
        ("plugin_settings.org:x", "unknown"),
    ]


@pytest.mark.parametrize("marker", ["$sealed", "$sealed_default"])
def test_nobody_can_store_a_sealed_value_of_his_own(marker: str) -> None:
    """A dict setting could otherwise carry a ciphertext that somebody copied from elsewhere."""
    plugin = entry(schema=[{"key": "map", "type": "dict", "description": "d"}])

    assert problems(plugin, {plugin.key: {"map": {marker: "v1.k.x"}}})[0][1] == "type"


def test_a_required_setting_needs_a_value_from_somewhere() -> None:
    schema = [{"key": "city", "type": "str", "description": "d", "required": True}]
    plugin = entry(schema=schema)

    assert problems(plugin, {}) == [(f"plugin_settings.{plugin.key}.city", "required")]
    assert checked(plugin, {"city": "Bonn"}) == {"city": "Bonn"}
    assert checked(entry(schema=schema, default_settings={"city": "Bonn"}), {}) == {}
    with pytest.raises(PluginLoadFailed, match="needs the settings city"):
        opened(plugin, {})


def test_settings_may_be_given_by_pid_and_those_of_others_are_dropped() -> None:
    plugin = entry()

    result = RULES.checked(INSTANCE, [plugin], {plugin.pid: {"limit": 1}}, {"org:com.gone@1.0": {"a": 1}})

    assert result == {plugin.key: {"limit": 1}}


def test_a_new_version_inherits_what_it_still_knows_secrets_included() -> None:
    old, new = entry(), entry("2.0.0", [SCHEMA[0], {**SCHEMA[1], "type": "str"}, SCHEMA[2]])
    stored = checked(old, {"units": "C", "limit": 3, "token": CANARY, "pages": []})

    carried = RULES.carried_over(INSTANCE, old, new, stored)

    assert masked(carried) == {"units": "C", "token": MASK}
    assert opened(new, carried) == {"units": "C", "token": CANARY}


def test_a_secret_stays_sealed_when_a_new_version_forgets_that_it_is_one() -> None:
    old, new = entry(), entry("2.0.0", [{"key": "token", "type": "str", "description": "d"}])
    stored = checked(old, {"token": CANARY})

    carried = RULES.carried_over(INSTANCE, old, new, stored)

    assert masked(carried) == {"token": MASK}
    assert opened(new, carried) == {"token": CANARY}


def test_a_sensitive_default_is_sealed_in_the_plugins_own_row() -> None:
    plugin_id = new_id()
    defaults = RULES.sealed_defaults("org", plugin_id, {"token": CANARY, "limit": 2}, SCHEMA)
    plugin = entry(id=plugin_id, default_settings=defaults)

    assert CANARY not in str(defaults)
    assert masked(defaults) == {"token": MASK, "limit": 2}
    assert opened(plugin, {}) == {"token": CANARY, "limit": 2}
    with pytest.raises(PluginLoadFailed):
        opened(msgspec.structs.replace(plugin, id=new_id()), {})
