"""Who wins: code default < global < organization < instance, a tier that is not overridable stopping those below it.

This is the only place where values of several tiers are brought together; the API, the snapshot that workers get and
the effective configuration that admins see all ask here.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from control_plane.settings.registry import SETTINGS, Setting
from shared.chat_settings import ChatSettings
from shared.errors import FieldError, SettingFixed
from shared.frameworks import Mode
from shared.orchestrator_config import read_stored, to_stored

Source = Literal["default", "global", "organization", "instance"]
FixedBy = Literal["global", "organization"]


class TierValue(msgspec.Struct, frozen=True):
    """What one tier says of one setting. Without a value it can still fix what it inherits."""

    value: Any = UNSET
    is_overridable: bool = True


Tier = Mapping[str, TierValue]
"""What a tier says, by the keys of the settings."""


class Resolved(msgspec.Struct, frozen=True):
    """`value` is UNSET when no tier gives one and the default of the mode applies."""

    value: Any
    source: Source
    fixed_by: FixedBy | None = None


class Cascade(msgspec.Struct, frozen=True):
    """The tiers above the instances of one organization."""

    of_everyone: Tier = {}
    of_organization: Tier = {}

    def resolve(self, key: str, own: Any = UNSET) -> Resolved:
        """The value of a setting for an instance that itself says `own`."""
        found = Resolved(UNSET, "default")
        tiers: tuple[tuple[FixedBy, Tier], ...] = (("global", self.of_everyone), ("organization", self.of_organization))
        for source, tier in tiers:
            said = tier.get(key)
            if said is None:
                continue
            if said.value is not UNSET:
                found = Resolved(said.value, source)
            if not said.is_overridable:
                return msgspec.structs.replace(found, fixed_by=source)
        return found if own is UNSET else Resolved(own, "instance")

    def above_organization(self) -> "Cascade":
        """What an organization inherits."""
        return Cascade(self.of_everyone)


class Effective(msgspec.Struct, frozen=True):
    """`config` is complete. `resolved` tells of every setting that the instance has where it came from."""

    config: dict[str, Any]
    chat: ChatSettings
    resolved: dict[str, Resolved]


def effective(mode: Mode, given: Mapping[str, Any], cascade: Cascade) -> Effective:
    """What an instance of `mode` with the configuration `given` really runs with."""
    config, mode_config, chat = dict(given), dict(given.get("mode_config", {})), dict[str, Any]()
    resolved: dict[str, Resolved] = {}
    for setting, own in _settings_of(mode, given):
        place = {"config": config, "mode_config": mode_config, "chat": chat}[setting.place]
        found = resolved[setting.key] = cascade.resolve(setting.key, own)
        if found.value is UNSET:
            place.pop(setting.key, None)
        else:
            place[setting.key] = found.value
    config["mode_config"] = mode_config
    return Effective(to_stored(read_stored(mode, config)), msgspec.convert(chat, ChatSettings), resolved)


def is_other(mode: Mode, given: Mapping[str, Any], keys: Collection[str], before: Cascade, after: Cascade) -> bool:
    """Whether an instance comes to something else when no other settings than `keys` change."""
    return any(
        _value(setting, mode, before.resolve(setting.key, own))
        != _value(setting, mode, after.resolve(setting.key, own))
        for setting, own in _settings_of(mode, given)
        if setting.key in keys
    )


def require_free(mode: Mode, given: Mapping[str, Any], cascade: Cascade) -> None:
    """Raise SettingFixed unless everything `given` to an instance can have an effect, or is what is fixed anyway."""
    problems: list[FieldError] = []
    for setting, own in _settings_of(mode, given):
        if own is UNSET:
            continue
        found = cascade.resolve(setting.key, own)
        fixed = _value(setting, mode, found)
        if found.fixed_by and own != fixed:
            field = f"config.{setting.key}" if setting.place == "config" else f"config.mode_config.{setting.key}"
            problems.append(FieldError(field, "fixed", f"fixed to {fixed!r} by the {found.fixed_by} settings"))
    if problems:
        raise SettingFixed(errors=tuple(problems))


def _settings_of(mode: Mode, given: Mapping[str, Any]) -> Iterator[tuple[Setting, Any]]:
    """Every setting that an instance of the mode has, with what it says itself."""
    given_places: dict[str, Mapping[str, Any]] = {
        "config": given,
        "mode_config": given.get("mode_config", {}),
        "chat": {},
    }
    for setting in _OF_MODE[mode]:
        yield setting, given_places[setting.place].get(setting.key, UNSET)


def _value(setting: Setting, mode: Mode, found: Resolved) -> Any:
    return setting.defaults.get(mode, setting.defaults.get(None)) if found.value is UNSET else found.value


_OF_MODE = {mode: [setting for setting in SETTINGS.values() if setting.belongs_to(mode)] for mode in Mode}
