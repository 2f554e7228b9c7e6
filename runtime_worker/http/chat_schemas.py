"""OpenAI's chat completions as far as an orchestrator can honour them (decision 0038): the request and the answers."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from runtime_worker.conversations.base import TokenUsage
from runtime_worker.models.base import ModelMessage
from runtime_worker.stream.chat_chunks import completion_id, usage_of
from shared.chat_settings import OnDisconnect
from shared.errors import FieldError, InvalidRequest
from shared.ids import parse_id
from shared.prompts import as_data

INSTRUCTIONS_TAG = "caller_instructions"
MAX_RESOURCE_CHARS = 500


class ChatMessage(msgspec.Struct, frozen=True):
    """`content` is text, or a list of parts of type `text`. Fields that OpenAI's answers carry may come back with them
    and mean nothing here."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[Any] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = False
    include_obfuscation: bool | None = None


class ChatCompletionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides over an answer is the orchestrator's configuration: `model` may be anything, and the parameters that
    only tune a model are accepted and mean nothing. Those that ask for another kind of answer are refused.

    `metadata` may hold `conversation_id` (or the header `X-Conversation-Id`) to go on with a conversation, of which
    `messages` then only adds the last one; `resource_id` for a grounded orchestrator; and `on_disconnect`.
    """

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    metadata: dict[str, Any] | None = None

    # Sent by many clients, often without being asked to; none of them changes what kind of answer it is.
    frequency_penalty: float | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    moderation: Any = None
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: str | None = None
    store: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    verbosity: str | None = None

    # Honoured by nothing here: only their neutral values pass.
    audio: Any = None
    function_call: Any = None
    functions: list[Any] | None = None
    logit_bias: dict[str, Any] | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    n: int | None = None
    prediction: Any = None
    response_format: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    tool_choice: Any = None
    tools: list[Any] | None = None
    top_logprobs: int | None = None
    web_search_options: Any = None


class ChatTurn(msgspec.Struct, frozen=True):
    """What a request comes to: the new message, what came before it, and where it belongs. `token` is a guest's."""

    message: str
    brought: tuple[ModelMessage, ...]
    conversation_id: UUID | None
    resource_id: str | None
    on_disconnect: OnDisconnect | None
    token: str | None = None


def turn_of(body: ChatCompletionBody, conversation_header: str | None) -> ChatTurn:
    """Raises InvalidRequest for what cannot be honoured, saying what instead."""
    require_honourable(body)
    metadata = body.metadata or {}
    *earlier, last = (_told(message, number) for number, message in enumerate(body.messages))
    if body.messages[-1].role != "user" or not last.content:
        raise _refused("messages", "the last message has to be one of the user, with some text")
    given = {str(v) for v in (metadata.get("conversation_id"), conversation_header) if v not in (None, "")}
    if len(given) > 1:
        raise _refused("metadata.conversation_id", "the header X-Conversation-Id names another conversation")
    conversation_id = parse_id(given.pop()) if given else None
    if conversation_id is None and (metadata.get("conversation_id") or conversation_header):
        raise _refused("metadata.conversation_id", "not the id of a conversation")
    resource_id = metadata.get("resource_id")
    if resource_id is not None and not (isinstance(resource_id, str) and 0 < len(resource_id) <= MAX_RESOURCE_CHARS):
        raise _refused("metadata.resource_id", f"text of 1 to {MAX_RESOURCE_CHARS} characters")
    on_disconnect = metadata.get("on_disconnect")
    if on_disconnect not in (None, "continue", "cancel"):
        raise _refused("metadata.on_disconnect", "either continue or cancel")
    token = metadata.get("conversation_token")
    if token is not None and not isinstance(token, str):
        raise _refused("metadata.conversation_token", "the text of a conversation token")
    brought = tuple(message for message in earlier if message.content)
    return ChatTurn(last.content, brought, conversation_id, resource_id, on_disconnect, token)


def require_honourable(body: ChatCompletionBody) -> None:
    """Raises InvalidRequest for a parameter that asks for what no orchestrator does."""
    if body.tools or body.functions or body.tool_choice not in (None, "none", "auto") or body.function_call:
        field = "functions" if body.functions or body.function_call else "tools"
        raise _refused(field, "an orchestrator has the tools of its plugins; a request brings no others")
    if body.n not in (None, 1):
        raise _refused("n", "there is one answer to a message")
    if body.response_format and body.response_format.get("type") != "text":
        raise _refused("response_format", "answers are text; their form is a matter of the orchestrator's prompts")
    if body.audio or (body.modalities or ["text"]) != ["text"]:
        raise _refused("modalities", "answers are text")
    if body.logprobs or body.top_logprobs:
        raise _refused("logprobs", "an answer may come from several models, so there are no log probabilities of it")
    for name in ("logit_bias", "prediction", "stop", "web_search_options"):
        if getattr(body, name):
            raise _refused(name, "this cannot be honoured; leave it out")


def _told(message: ChatMessage, number: int) -> ModelMessage:
    """As models see it. What a caller calls a system message stays on the caller's side: the orchestrator's own prompts
    stand above it."""
    field = f"messages[{number}]"
    if message.role in ("tool", "function") or message.tool_calls:
        raise _refused(field, "tools are called inside the orchestrator; leave their calls and results out")
    text = _text(message.content, field)
    if message.role in ("system", "developer"):
        return ModelMessage("user", as_data(INSTRUCTIONS_TAG, text) if text else "")
    return ModelMessage("assistant" if message.role == "assistant" else "user", text)


def _text(content: str | list[dict[str, Any]] | None, field: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    if len(texts) < len(content) or not all(isinstance(text, str) for text in texts):
        raise _refused(f"{field}.content", "only parts of type text are understood")
    return "\n".join(str(text) for text in texts)


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=(FieldError(field, "unsupported", message),))


class ChatAnswerMessage(msgspec.Struct, frozen=True):
    content: str
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None


class ChatChoice(msgspec.Struct, frozen=True):
    message: ChatAnswerMessage
    index: int = 0
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatCompletionAnswer(msgspec.Struct, frozen=True):
    """`metadata` names the run and the conversation, which may be gone on with by its id."""

    id: str
    created: int
    model: str
    choices: tuple[ChatChoice, ...]
    usage: dict[str, Any]
    metadata: dict[str, str]
    object: Literal["chat.completion"] = "chat.completion"


def completion_of(
    run_id: UUID, started_at: datetime, model: str, text: str, usage: TokenUsage, metadata: dict[str, str]
) -> ChatCompletionAnswer:
    return ChatCompletionAnswer(
        id=completion_id(run_id),
        created=int(started_at.timestamp()),
        model=model,
        choices=(ChatChoice(ChatAnswerMessage(text)),),
        usage=usage_of(usage),
        metadata=metadata,
    )


class ModelOut(msgspec.Struct, frozen=True):
    """An orchestrator as a model. `created` is when its id was made, in seconds since 1970."""

    id: str
    name: str
    created: int
    owned_by: str
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True):
    data: tuple[ModelOut, ...]
    object: Literal["list"] = "list"
