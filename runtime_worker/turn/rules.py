"""What a request has to be for the instance it is meant for, beyond what every request has to be."""

from runtime_worker.conversations.base import Conversation
from runtime_worker.engines.choices import llm_config, model_keys
from runtime_worker.turn.request import TurnRequest
from shared.errors import Conflict, FieldError, InvalidRequest
from shared.frameworks import Mode
from shared.snapshots import OrchestratorSnapshot


def require_acceptable(request: TurnRequest, snapshot: OrchestratorSnapshot, conversation: Conversation | None) -> None:
    """Raises InvalidRequest, and Conflict when a grounded conversation would change what it is about."""
    limit = snapshot.chat.max_message_chars
    if len(request.message) > limit:
        message = f"a message has at most {limit} characters here, this one has {len(request.message)}"
        raise InvalidRequest(message, errors=(FieldError("message", "too_long", message),))
    if snapshot.mode is Mode.GROUNDED:
        if request.resource_id is None:
            message = "a grounded orchestrator needs the resource that the conversation is about"
            raise InvalidRequest(message, errors=(FieldError("resource_id", "missing", message),))
        about = conversation.resource_id if conversation else None
        if about is not None and about != request.resource_id:
            raise Conflict("the conversation is about another resource; start a new one")


def require_priced(snapshot: OrchestratorSnapshot) -> None:
    """Where a budget bounds what a run costs: of a model without a price nobody would know. Raises Conflict."""
    known = {(price.provider, price.model_name) for price in snapshot.prices}
    used = {(llm_config(snapshot, config_id).provider, name) for config_id, name in model_keys(snapshot)}
    if unknown := ", ".join(sorted(f"{provider.value}/{name}" for provider, name in used - known)):
        raise Conflict(
            f"a budget bounds what this run may cost, and the catalogue of models has no price for {unknown}; "
            "the platform's operator adds one there, 0 for a model that costs nothing"
        )
