"""LLM configs as they are read without a session."""

from typing import Any
from uuid import UUID

import msgspec

from control_plane.llm_configs.tables import LLMConfig


class LLMConfigRecord(msgspec.Struct, frozen=True):
    """What an instance is built from of one, with the names and meanings of its columns."""

    id: UUID
    name: str
    provider: str
    model_name: str | None
    base_url: str | None
    additional_config: dict[str, Any]
    sealed_api_key: str
    key_fingerprint: str
    is_enabled: bool
    revision: int


COLUMNS = tuple(getattr(LLMConfig, name) for name in LLMConfigRecord.__struct_fields__)
