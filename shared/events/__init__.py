"""Broker messages between the planes: frozen structs in one tagged union, tag = routing key.

Events are hints. Whoever gets one fetches the truth by revision, so a lost, doubled or late event changes nothing.
New fields go last, with a default; `shared/contracts/events.json` is the committed schema and a test compares it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from pydantic_core import CoreSchema, core_schema

from shared.snapshots import PluginSource, Tier

EXCHANGE = "cadence.orchestrators"
DEAD_LETTERS = "cadence.dead"
ROUTING_KEYS = (
    "orchestrator.load",
    "orchestrator.reload",
    "orchestrator.unload",
    "orchestrator.central_point_changed",
    "settings.global_changed",
    "settings.org_changed",
    "plugin.changed",
)


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", forbid_unknown_fields=False):
    """`event_id` is unique per fact, so that a consumer can tell a redelivery; `revision` orders facts."""

    event_id: UUID
    revision: int
    occurred_at: datetime

    # FastStream's AsyncAPI generator looks for these two hooks on anything that is not a pydantic model.
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(lambda value: msgspec.convert(value, cls))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        (out,), components = msgspec.json.schema_components([cls], ref_template="#/components/schemas/{name}")
        return {**components.get(cls.__name__, out)}


class OrchestratorLoad(Event, frozen=True, kw_only=True, tag="orchestrator.load"):
    org_id: UUID
    instance_id: UUID
    tier: Tier
    operation_id: UUID


class OrchestratorReload(Event, frozen=True, kw_only=True, tag="orchestrator.reload"):
    org_id: UUID
    instance_id: UUID
    operation_id: UUID


class OrchestratorUnload(Event, frozen=True, kw_only=True, tag="orchestrator.unload"):
    org_id: UUID
    instance_id: UUID
    operation_id: UUID


class CentralPointChanged(Event, frozen=True, kw_only=True, tag="orchestrator.central_point_changed"):
    """Below `orchestrator.`: the subjects of a stream that exists already are not widened."""

    org_id: UUID
    central_id: UUID


class GlobalSettingsChanged(Event, frozen=True, kw_only=True, tag="settings.global_changed"):
    keys: tuple[str, ...] = ()


class OrganizationSettingsChanged(Event, frozen=True, kw_only=True, tag="settings.org_changed"):
    org_id: UUID
    keys: tuple[str, ...] = ()


class PluginChanged(Event, frozen=True, kw_only=True, tag="plugin.changed"):
    source: PluginSource
    pid: str
    version: str
    digest: str
    org_id: UUID | None = None


AnyEvent = (
    OrchestratorLoad
    | OrchestratorReload
    | OrchestratorUnload
    | GlobalSettingsChanged
    | OrganizationSettingsChanged
    | PluginChanged
    | CentralPointChanged
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def routing_key(event: AnyEvent) -> str:
    """The topic an event is published under: its tag."""
    return str(event.__struct_config__.tag)


def encode_event(event: AnyEvent) -> bytes:
    return _encoder.encode(event)


def decode_event(payload: bytes) -> AnyEvent:
    """Raises msgspec.MsgspecError for anything that is not one of our events; such a message is dead-lettered."""
    return _decoder.decode(payload)
