"""What a caller asks for when it starts a turn."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec

from runtime_worker.models.base import ModelMessage
from runtime_worker.stream.dialect import Dialect
from shared.chat_settings import OnDisconnect
from shared.limits import Admission


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One message to an instance. `is_followed` says whether the caller wants the events or only the answer.

    `on_disconnect` None leaves it to the organization's setting. `run_id` is given when somebody knows the run by it
    before it begins. `is_queued` says that it waits for the conversation's running turn instead of being refused.
    `brought` is what a caller tells of an earlier talk that we know nothing of; only a new conversation begins with it.
    `central_id` is the central point it came through, whose conversations go on with whichever instance it points at.
    `dialect` makes, of the run's id and its beginning, what tells it in another protocol than ours.
    `api_key_id` is the key it was asked for with, None for a session.
    `admission` is what the limits say of it, None when nobody has asked them.
    """

    org_id: UUID
    instance_id: UUID
    message: str
    conversation_id: UUID | None
    resource_id: str | None
    is_followed: bool
    on_disconnect: OnDisconnect | None = None
    run_id: UUID | None = None
    is_queued: bool = False
    brought: tuple[ModelMessage, ...] = ()
    dialect: Callable[[UUID, datetime], Dialect] | None = None
    api_key_id: UUID | None = None
    admission: Admission | None = None
    central_id: UUID | None = None
