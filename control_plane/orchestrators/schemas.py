from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.orchestrators.reading import OrchestratorRecord
from control_plane.plugins.settings import masked
from control_plane.settings.cascade import FixedBy, Source
from shared.frameworks import Framework, Mode
from shared.snapshots import InstanceStatus, Tier
from shared.workers import LoadState

InstanceName = Annotated[str, Meta(min_length=5, max_length=200, pattern=r"\S")]
WhoAmI = Annotated[str, Meta(max_length=8000)]
PluginRef = Annotated[str, Meta(min_length=1, max_length=300)]
PluginRefs = Annotated[list[PluginRef], Meta(min_length=1, max_length=50)]
PluginSettingsByPlugin = dict[str, dict[str, Any]]


class OrchestratorBody(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of `active_plugin_ids` is a catalogue row's id, `<pid>@<version>`, or a pid for its latest version.

    `plugin_settings` is keyed by `<source>:<pid>@<version>` or just by pid.
    """

    name: InstanceName
    framework_type: Framework
    mode: Mode
    active_plugin_ids: PluginRefs
    config: dict[str, Any]
    tier: Tier = "demand"
    whoami: WhoAmI = ""
    plugin_settings: PluginSettingsByPlugin = {}


class OrchestratorPatch(msgspec.Struct, forbid_unknown_fields=True):
    """`framework_type` and `mode` are fixed at creation; naming them here is an error of its own."""

    name: InstanceName | UnsetType = UNSET
    tier: Tier | UnsetType = UNSET
    whoami: WhoAmI | UnsetType = UNSET
    active_plugin_ids: PluginRefs | UnsetType = UNSET
    plugin_settings: PluginSettingsByPlugin | UnsetType = UNSET
    framework_type: Framework | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET


class ConfigBody(msgspec.Struct, forbid_unknown_fields=True):
    """The whole new `config`; what it leaves out is inherited."""

    config: dict[str, Any]


class StatusBody(msgspec.Struct, forbid_unknown_fields=True):
    status: Literal["active", "suspended"]


class PluginSettingsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Only what is named changes. `"***"` keeps a sensitive value, null goes back to the default."""

    plugin_settings: PluginSettingsByPlugin


class ActivateBody(msgspec.Struct, forbid_unknown_fields=True):
    """The version to switch to: a catalogue row's id, `<pid>@<version>`, or a pid for its latest version."""

    plugin_id: PluginRef


class LoadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tier: Tier | None = None


class OrchestratorView(msgspec.Struct):
    """`config` is what the orchestrator was given; what it inherits besides is its `effective-config`.

    `is_ready`: active, and at least one live worker serves it at the current revision.
    """

    instance_id: UUID
    org_id: UUID
    name: str
    framework_type: Framework
    mode: Mode
    status: InstanceStatus
    tier: Tier
    whoami: str
    config: dict[str, Any]
    plugin_settings: dict[str, Any]
    active_plugin_ids: list[UUID]
    config_hash: str
    revision: int
    is_ready: bool
    is_deleted: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, record: OrchestratorRecord, *, is_ready: bool) -> Self:
        return cls(
            instance_id=record.id,
            org_id=record.org_id,
            name=record.name,
            framework_type=Framework(record.framework_type),
            mode=Mode(record.mode),
            status=record.status,
            tier=record.tier,
            whoami=record.whoami,
            config=record.config,
            plugin_settings=masked(record.plugin_settings),
            active_plugin_ids=record.plugin_ids,
            config_hash=record.config_hash,
            revision=record.revision,
            is_ready=is_ready,
            is_deleted=record.is_deleted,
            created_at=record.created_at,
            updated_at=record.updated_at,
        )


class WorkerStateView(msgspec.Struct):
    """`reason` says why a build failed, or what one that takes long is waiting for; `is_current` that the worker is at
    the instance's present configuration.

    `observed_revision` is the newest that the worker knows of, `served_revision` what a run gets from it now: an older
    one while the newer is being built or cannot be, null while nothing is built.
    """

    worker_id: str
    state: LoadState
    observed_revision: int
    served_revision: int | None
    served_config_hash: str | None
    config_hash: str
    is_current: bool
    draining: bool
    updated_at: datetime
    reason: str | None


class StatusView(msgspec.Struct):
    """`is_unloaded` is the operator's intent; `workers` is what each live worker made of it."""

    instance_id: UUID
    status: InstanceStatus
    tier: Tier
    is_unloaded: bool
    revision: int
    config_hash: str
    is_ready: bool
    workers: list[WorkerStateView]


class OperationView(msgspec.Struct):
    """Accepted: workers act on it by themselves. `GET …/status` shows `revision` once they have.

    `status` is there when the caller waited for it.
    """

    instance_id: UUID
    revision: int
    operation_id: UUID
    status: StatusView | UnsetType = UNSET


class GraphView(msgspec.Struct):
    """`mermaid` is drawn from the built orchestrator of one worker, not from the configuration."""

    instance_id: UUID
    worker_id: str
    mermaid: str


class ResolvedValue(msgspec.Struct, omit_defaults=True):
    """A value and the tier it came from; `fixed_by` names the tier, if there is one, that leaves those below no say."""

    value: Any
    source: Source
    fixed_by: FixedBy | None = None


class EffectiveConfigView(msgspec.Struct):
    """Every setting by its dotted path: `config.…`, `chat.…` (the organization's), and `plugin_settings.<plugin>.…`
    with secrets masked.
    """

    instance_id: UUID
    revision: int
    config_hash: str
    values: dict[str, ResolvedValue]
