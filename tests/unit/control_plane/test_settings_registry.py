"""The registry lists every setting there is and nothing that is read nowhere."""

import msgspec
import pytest

from control_plane.settings.registry import ONLY_IN_INSTANCES, SETTINGS, Setting
from shared.chat_settings import ChatSettings
from shared.frameworks import Mode
from shared.mode_configs import MODE_CONFIGS, NodeOverride
from shared.retention import RetentionSettings


@pytest.mark.parametrize("mode", MODE_CONFIGS)
def test_every_key_of_a_mode_is_a_setting_or_means_something_for_one_instance_only(mode: Mode) -> None:
    keys = {field.name for field in msgspec.structs.fields(MODE_CONFIGS[mode]) if field.type is not NodeOverride}
    listed = {s.key for s in SETTINGS.values() if s.place == "mode_config" and mode in s.defaults}
    assert keys - ONLY_IN_INSTANCES == listed


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_key_means_the_same_in_every_mode_and_its_defaults_are_within_its_bounds(setting: Setting) -> None:
    if setting.place == "mode_config":
        kinds = [
            field.type
            for kind in MODE_CONFIGS.values()
            for field in msgspec.structs.fields(kind)
            if field.name == setting.key
        ]
        assert all(kind == setting.kind for kind in kinds)
    for default in setting.defaults.values():
        assert default is None or setting.checked(default, setting.key) == default


def test_every_setting_of_an_organization_is_listed() -> None:
    listed = {setting.key for setting in SETTINGS.values() if setting.scope == "organization"}
    assert listed == {*ChatSettings.__struct_fields__, *RetentionSettings.__struct_fields__}
