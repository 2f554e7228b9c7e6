from typing import TypedDict

from cadence_sdk.types.sdk_messages import UvMessage


class UvState(TypedDict, total=False):
    """What a turn knows: the conversation so far, whose it is, and what it is about."""

    messages: list[UvMessage]
    thread_id: str | None
    resource_id: str | None
    user_intent: str | None
