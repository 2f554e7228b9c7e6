"""Settings of an organization's chats that stand above its instances: the same for all of them.

The control plane resolves them (`control_plane.settings`), a snapshot carries them, a worker goes by them.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

OnDisconnect = Literal["continue", "cancel"]

MAX_MESSAGE_CHARS = 200_000
"""What `max_message_chars` can be raised to: as UTF-8 in JSON it still fits into the body a worker reads (1 MiB)."""


class ChatSettings(msgspec.Struct, frozen=True):
    """Defaults are those of the API contract."""

    max_message_chars: Annotated[int, Meta(ge=1, le=MAX_MESSAGE_CHARS)] = 32_000
    on_disconnect: OnDisconnect = "continue"
