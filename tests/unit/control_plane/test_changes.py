"""What an audit entry shows of a column's value."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from control_plane.database.changes import masked
from shared.snapshots import SEALED_FIELD


def test_secrets_are_masked_wherever_they_are() -> None:
    assert masked("argon2…", is_secret=True) == "***"
    assert masked({"units": "metric", "api_key": {SEALED_FIELD: "v1.k1.abc"}}) == {"units": "metric", "api_key": "***"}
    written_by_hand = {"headers": {"Authorization": "Bearer x", "Accept": "json"}, "list": [{"clientSecret": "y"}]}
    assert masked(written_by_hand) == {
        "headers": {"Authorization": "***", "Accept": "json"},
        "list": [{"clientSecret": "***"}],
    }
    assert masked({"max_tokens": 5, "token": ""}) == {"max_tokens": 5, "token": ""}


def test_what_json_cannot_hold_is_told_as_text_and_what_is_long_by_its_size() -> None:
    assert masked(UUID(int=1)) == "00000000-0000-0000-0000-000000000001"
    assert masked(Decimal("1.50")) == "1.50"
    assert masked(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00+00:00"
    assert masked(b"abc") == "(3 bytes)"
    assert masked("x" * 5000) == "(5002 bytes)"
    assert masked(None, is_secret=True) is None
