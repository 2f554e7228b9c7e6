"""Every run-time setting, once: what it is called, what it may be, and down to which tier it can be set.

Types, bounds and defaults are those of the structs that read the values; here stands only what the structs do not say.
A setting without an effect cannot be listed: there would be no field to take it from.
"""

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Literal, get_args

import msgspec

from shared.chat_settings import ChatSettings
from shared.errors import FieldError, InvalidRequest
from shared.frameworks import Mode
from shared.mode_configs import MODE_CONFIGS
from shared.orchestrator_config import OrchestratorConfig
from shared.retention import RetentionSettings

Scope = Literal["organization", "instance"]
"""The lowest tier where a setting can be set. Those of an instance are keys of its `config`."""

Place = Literal["config", "mode_config", "chat", "organization"]
"""Where in an instance's effective configuration the value ends up; `organization` is nowhere in it."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is the type with its bounds. `defaults` are by mode for a setting of the mode, else under None."""

    key: str
    description: str
    unit: str | None
    place: Place
    kind: Any
    defaults: Mapping[Mode | None, Any]

    @property
    def scope(self) -> Scope:
        return "organization" if self.place in ("chat", "organization") else "instance"

    @property
    def schema(self) -> dict[str, Any]:
        """Type and bounds as JSON schema."""
        return msgspec.json.schema(self.kind)

    def belongs_to(self, mode: Mode) -> bool:
        """Whether instances of the mode have it."""
        return self.place != "organization" and (None in self.defaults or mode in self.defaults)

    def checked(self, value: Any, field: str) -> Any:
        """The value as it is stored. Raises InvalidRequest naming `field`."""
        try:
            return msgspec.to_builtins(msgspec.convert(value, self.kind))
        except msgspec.ValidationError as error:
            raise InvalidRequest(
                f"{self.key} cannot be set to this", errors=(FieldError(field, "invalid", str(error)),)
            ) from None


_IN_CONFIG: dict[str, tuple[str | None, str]] = {
    "default_temperature": (None, "Temperature of nodes that name none; without one the provider's own."),
    "default_max_tokens": ("tokens", "The longest answer of nodes that name no limit; without one the provider's own."),
}
_IN_MODE_CONFIG: dict[str, tuple[str | None, str]] = {
    "node_execution_timeout": ("seconds", "How long one node may take. Nodes that write the answer get twice that."),
    "run_timeout": ("seconds", "How long a whole turn may take."),
    "message_context_window": ("messages", "How many earlier messages a model gets to see."),
    "max_context_window": ("tokens", "How much of a conversation a model gets to see; more is compacted or left out."),
    "enabled_auto_compact": (None, "Summarise older messages when a conversation outgrows max_context_window."),
    "enabled_suggestion": (None, "Suggest a next question after an answer."),
    "max_agent_hops": ("hops", "How many times a turn may enter an agent."),
    "max_tool_rounds": ("rounds", "How many times a turn may go back to its tools."),
    "enabled_parallel_tool_calls": (None, "Let a model call several tools at once."),
    "enabled_llm_validation": (None, "Have a model check tool results before they are answered from."),
    "enabled_clarification_intent": (None, "Ask the user back when a request is unclear."),
    "consecutive_agent_route_limit": ("times", "How many times in a row the same agent may be routed to."),
    "handoff_instructions": (None, "What agents are told about handing a conversation over."),
    "enabled_validator": (None, "Have a model check that an answer is supported by what was found."),
}
_IN_CHAT: dict[str, tuple[str | None, str]] = {
    "max_message_chars": ("characters", "The longest message that a user may send."),
    "on_disconnect": (None, "What becomes of a run when its client leaves and the request did not say."),
}
_IN_RETENTION: dict[str, tuple[str | None, str]] = {
    "retention_days": ("days", "How long what was said is kept; not set, until somebody deletes it."),
}
ONLY_IN_INSTANCES = frozenset({"entry_agent", "scope_rules"})
"""Keys of a `mode_config` that mean something for one instance only. So do overrides of nodes."""


def _fields(struct: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(struct)}


def _listed() -> Iterator[Setting]:
    config, chat, retention = _fields(OrchestratorConfig), _fields(ChatSettings), _fields(RetentionSettings)
    for key, (unit, description) in _IN_CONFIG.items():
        yield _setting(key, unit, description, "config", {None: config[key]})
    for key, (unit, description) in _IN_MODE_CONFIG.items():
        of_modes = {mode: fields[key] for mode, kind in MODE_CONFIGS.items() if key in (fields := _fields(kind))}
        if of_modes:
            yield _setting(key, unit, description, "mode_config", of_modes)
    for key, (unit, description) in _IN_CHAT.items():
        yield _setting(key, unit, description, "chat", {None: chat[key]})
    for key, (unit, description) in _IN_RETENTION.items():
        yield _setting(key, unit, description, "organization", {None: retention[key]})


def _setting(
    key: str,
    unit: str | None,
    description: str,
    place: Place,
    fields: Mapping[Any, msgspec.structs.FieldInfo],
) -> Setting:
    kind = next(iter(fields.values())).type
    # "Not set" is no value of a setting: it is the absence of one.
    (without_none,) = (
        [part for part in get_args(kind) if part is not NoneType] if NoneType in get_args(kind) else [kind]
    )
    return Setting(
        key=key,
        description=description,
        unit=unit,
        place=place,
        kind=without_none,
        defaults={mode: msgspec.to_builtins(field.default) for mode, field in fields.items()},
    )


SETTINGS: dict[str, Setting] = {setting.key: setting for setting in _listed()}


def settings_of(scope: Scope | None = None) -> list[Setting]:
    """All settings, or those of one scope, in the order they are shown."""
    return [setting for setting in SETTINGS.values() if scope in (None, setting.scope)]
