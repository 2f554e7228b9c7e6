"""What a worker gets from the control plane over `/internal`: all that one instance needs, secrets sealed."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from shared.chat_settings import ChatSettings
from shared.frameworks import Framework, Mode, Provider
from shared.pricing import ModelPrice

Tier = Literal["hot", "demand"]
InstanceStatus = Literal["active", "suspended", "inactive"]
PluginSource = Literal["system", "org"]
Visibility = Literal["private", "public"]
PluginKind = Literal["code", "mcp"]
MCPTransport = Literal["streamable_http", "stdio"]

SEALED_FIELD = "$sealed"
"""A sealed plugin setting is `{"$sealed": "<text of SecretKeyring.seal>"}` wherever settings travel or are stored."""
SEALED_DEFAULT_FIELD = "$sealed_default"
"""The same for an author's default, which is sealed in the plugin's row (`plugin_default_place`)."""


class WrappedDataKey(msgspec.Struct, frozen=True):
    """A data key as it is stored and travels. `wrapped` begins with the id of the key-encryption key."""

    id: UUID
    wrapped: str


class ToolDescription(msgspec.Struct, frozen=True):
    """One tool of a plugin as its inspection found it. `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


class PluginManifest(msgspec.Struct, frozen=True):
    """What inspection learnt about a package, without which nothing but running it would tell.

    `settings_schema` holds the entries of `plugin_settings`, each with key, name, type, description, required,
    sensitive and, unless sensitive, default. `requires` are the declared PEP 508 dependencies.
    """

    pid: str
    version: str
    name: str
    description: str
    capabilities: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    sdk_version: str = ">=2.0.0,<3.0.0"
    stateless: bool = True
    is_specialized: bool = False
    is_scoped: bool = False
    tools: tuple[ToolDescription, ...] = ()
    settings_schema: tuple[dict[str, Any], ...] = ()
    system_prompt: str = ""


class MCPServer(msgspec.Struct, frozen=True):
    """Where a plugin of kind `mcp` finds its server: `url`, or for stdio `command` and `args`.

    The plugin has the tools of `tool_allow_list` only; None means all of the server's. Headers are a setting of the
    plugin, because their values are secrets.
    """

    transport: MCPTransport
    url: str = ""
    command: str = ""
    args: tuple[str, ...] = ()
    tool_allow_list: tuple[str, ...] | None = None


class PluginSnapshot(msgspec.Struct, frozen=True):
    """One plugin of an instance, at an exact version, with its effective settings.

    `org_id` is None for a system plugin. `settings` may hold sealed values; each was sealed for the place
    `(table, column, row_id)` that `setting_place` gives. `lock` pins what it depends on (`shared.packages.locks`), ""
    when that is nothing. `mcp` is there for the kind `mcp`, which has no package.
    """

    plugin_id: UUID
    source: PluginSource
    org_id: UUID | None
    pid: str
    version: str
    digest: str
    package_key: str
    manifest: PluginManifest
    settings: dict[str, Any]
    trusted: bool = False
    lock: str = ""
    kind: PluginKind = "code"
    mcp: MCPServer | None = None


class LLMConfigSnapshot(msgspec.Struct, frozen=True):
    """One BYOK credential. `sealed_api_key` opens at (`organization_llm_configs`, `api_key`, `id`)."""

    id: UUID
    provider: Provider
    model_name: str | None
    base_url: str | None
    additional_config: dict[str, Any]
    sealed_api_key: str
    key_fingerprint: str
    revision: int


class OrchestratorSnapshot(msgspec.Struct, frozen=True):
    """One instance. `config` is the effective configuration, older names already replaced and defaults filled in.

    `data_keys` are those that its sealed values need, wrapped.
    `prices` are those of the models it uses, as far as the catalogue knows them. Nothing is built from them, so they
    are no part of `config_hash`: a new price comes with a new revision alone.
    """

    instance_id: UUID
    org_id: UUID
    name: str
    framework_type: Framework
    mode: Mode
    status: InstanceStatus
    tier: Tier
    is_unloaded: bool
    revision: int
    config_hash: str
    whoami: str
    config: dict[str, Any]
    plugins: tuple[PluginSnapshot, ...]
    llm_configs: dict[str, LLMConfigSnapshot]
    chat: ChatSettings = ChatSettings()
    prices: tuple[ModelPrice, ...] = ()
    data_keys: tuple[WrappedDataKey, ...] = ()

    def sealed_values(self) -> Iterator[str]:
        """Everything in it that is sealed."""
        for llm_config in self.llm_configs.values():
            yield llm_config.sealed_api_key
        for plugin in self.plugins:
            yield from sealed_texts(plugin.settings)


class InstanceChange(msgspec.Struct, frozen=True):
    """One line of the change feed: the latest known state of one instance, not its history."""

    instance_id: UUID
    org_id: UUID
    revision: int
    config_hash: str
    status: InstanceStatus
    tier: Tier
    is_unloaded: bool = False
    is_deleted: bool = False
    updated_at: datetime | None = None


class CentralPointChange(msgspec.Struct, frozen=True):
    """The latest known state of a central point: which instance answers for it.

    A `public` one answers callers without a session as well, who may ask so much in a minute, all of them together and
    each address.
    """

    central_id: UUID
    org_id: UUID
    revision: int
    name: str
    instance_id: UUID
    visibility: Visibility
    requests_per_minute: int
    requests_per_minute_per_address: int
    is_deleted: bool = False


class ChangePage(msgspec.Struct, frozen=True):
    """Instances and central points changed after `since`, each oldest revision first. Ask again at once with
    `next_since` while `has_more`."""

    changes: tuple[InstanceChange, ...]
    next_since: int
    has_more: bool = False
    central_points: tuple[CentralPointChange, ...] = ()


def is_sealed(value: Any) -> bool:
    """Whether a setting's value is a sealed one, an instance's or an author's default."""
    return isinstance(value, dict) and (SEALED_FIELD in value or SEALED_DEFAULT_FIELD in value)


def sealed_texts(settings: Mapping[str, Any]) -> Iterator[str]:
    """The sealed values among the settings of one plugin."""
    for value in settings.values():
        if is_sealed(value):
            yield value.get(SEALED_FIELD) or value[SEALED_DEFAULT_FIELD]


def plugin_setting_place(instance_id: UUID, plugin_key: str, setting: str) -> dict[str, Any]:
    """Where an instance's sensitive plugin setting is sealed; `plugin_key` is `<source>:<pid>@<version>`."""
    return {
        "table": "orchestrator_instances",
        "column": f"plugin_settings.{plugin_key}.{setting}",
        "row_id": instance_id,
    }


def plugin_default_place(source: PluginSource, plugin_id: UUID, setting: str) -> dict[str, Any]:
    """Where the sensitive default that a plugin's author gave a setting is sealed: in the plugin's own row."""
    return {
        "table": "system_plugins" if source == "system" else "org_plugins",
        "column": f"default_settings.{setting}",
        "row_id": plugin_id,
    }


def api_key_place(llm_config_id: UUID) -> dict[str, Any]:
    """Where an LLM config's API key is sealed."""
    return {"table": "organization_llm_configs", "column": "api_key", "row_id": llm_config_id}
