"""`RateLimit-*` on the answers of both planes."""

from collections.abc import Mapping
from typing import Any

from shared.limits import Admission


def rate_headers(scope: Mapping[str, Any], status: int) -> list[tuple[bytes, bytes]]:
    """What is left of the caller's tightest rate; a refusal (429) says it itself."""
    admission = scope["state"].get("admission")
    return admission.headers() if isinstance(admission, Admission) and status != 429 else []
