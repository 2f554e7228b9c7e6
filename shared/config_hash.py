"""The identity of an instance's effective configuration."""

import hashlib
import json
from typing import Any

import msgspec


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and real Unicode: the same value always gives the same bytes."""
    return json.dumps(
        msgspec.to_builtins(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def config_hash(effective: Any) -> str:
    """SHA-256 hex digest of the canonical JSON of an effective configuration (64 characters)."""
    return hashlib.sha256(canonical_json(effective)).hexdigest()
