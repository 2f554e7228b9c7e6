"""Types of body fields that several features share. Their bounds appear in the OpenAPI document."""

from typing import Annotated

from msgspec import Meta

# `$` also matches before a last line break, and JSON schema knows no other end: hence `(?!\n)` where none is meant.
# PostgreSQL stores every character but NUL.
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
ShortText = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
LongText = Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$")]
Email = Annotated[str, Meta(max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$(?!\n)")]
WebUrl = Annotated[str, Meta(max_length=2000, pattern=r"^https?://[^\s\x00]+$(?!\n)")]
Username = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$(?!\n)")]
Password = Annotated[str, Meta(min_length=8, max_length=256)]
"""NIST SP 800-63B: at least 8 characters, no rules of composition; the upper bound keeps hashing cheap."""
