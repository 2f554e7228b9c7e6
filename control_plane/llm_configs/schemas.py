from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.fields import Name, ShortText, WebUrl
from control_plane.llm_configs.tables import LLMConfig
from shared.frameworks import Provider

# Printable ASCII without spaces: a key travels in a header, where anything else could end it and begin another.
ApiKey = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[!-~]+$(?!\n)")]
BaseUrl = WebUrl


class LLMConfigBody(msgspec.Struct, forbid_unknown_fields=True):
    """`base_url` is needed for a provider that has no address of its own; `api_key` is never shown again."""

    name: Name
    provider: Provider
    api_key: ApiKey
    model_name: ShortText | None = None
    base_url: BaseUrl | None = None
    additional_config: dict[str, Any] = {}


class LLMConfigPatch(msgspec.Struct, forbid_unknown_fields=True):
    """`provider` may be repeated but never changed. A new `api_key` replaces the old one for good."""

    name: Name | UnsetType = UNSET
    provider: Provider | UnsetType = UNSET
    api_key: ApiKey | UnsetType = UNSET
    model_name: ShortText | UnsetType | None = UNSET
    base_url: BaseUrl | UnsetType | None = UNSET
    additional_config: dict[str, Any] | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET


class LLMConfigView(msgspec.Struct):
    """`key_fingerprint` tells two keys apart; `key_last4` is empty for a key so short that it would give it away."""

    id: UUID
    org_id: UUID
    name: str
    provider: Provider
    model_name: str | None
    base_url: str | None
    additional_config: dict[str, Any]
    key_fingerprint: str
    key_last4: str
    is_enabled: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, config: LLMConfig) -> Self:
        return cls(**{name: getattr(config, name) for name in cls.__struct_fields__})


class ProbeView(msgspec.Struct):
    """What a real call with the key came to; `code` is one of the error catalogue when it failed."""

    ok: bool
    latency_ms: float
    code: str | None
    message: str
