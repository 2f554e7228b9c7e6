from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    username: Annotated[str, Meta(min_length=1, max_length=200)]
    password: Annotated[str, Meta(min_length=1, max_length=256)]


class TokenView(msgspec.Struct):
    """`token` is sent as `Authorization: Bearer`; after `expires_at` it is dead."""

    token: str
    expires_at: datetime
