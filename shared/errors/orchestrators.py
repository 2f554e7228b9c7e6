"""OR: orchestrators and their runs."""

from shared.errors.base import DomainError, Kind
from shared.errors.requests import InvalidRequest


class OrchestratorNotLoaded(DomainError):
    """Explicitly unloaded, or suspended: it serves nothing until it is loaded or activated again."""

    kind, code, title, retryable = Kind.NOT_READY, "OR-0001", "The orchestrator is not loaded", True


class OrchestratorBuildFailed(DomainError):
    """Building it failed; `detail` says why in words an admin can act on."""

    kind, code, title, retryable = Kind.NOT_READY, "OR-0002", "The orchestrator could not be built", True


class LLMConfigDisabled(OrchestratorBuildFailed):
    """A credential it needs was disabled. Unlike after other failed builds, nothing older goes on serving with it."""

    kind, code, title, retryable = Kind.NOT_READY, "OR-0010", "A credential of the orchestrator is disabled", True


class OrchestratorDeactivated(DomainError):
    kind, code, title = Kind.GONE, "OR-0003", "The orchestrator is deactivated"


class ConversationBusy(DomainError):
    """One run at a time per conversation; `run_id` is the running one."""

    kind, code, title, retryable = Kind.CONFLICT, "OR-0004", "The conversation has a run in progress", True


class RunTimedOut(DomainError):
    kind, code, title, retryable = Kind.TIMEOUT, "OR-0005", "The run took longer than allowed", True


class RunFailed(DomainError):
    """A run ended for a reason that is ours."""

    kind, code, title, retryable = Kind.INTERNAL, "OR-0006", "The run failed", True


class WorkerLost(DomainError):
    kind, code, title, retryable = Kind.UPSTREAM, "OR-0007", "The worker serving the run was lost", True


class RunCancelled(DomainError):
    kind, code, title = Kind.CONFLICT, "OR-0008", "The run was cancelled"


class RunEventsGone(DomainError):
    """The events asked for are not kept any more, or never were: what was said is in the conversation's messages."""

    kind, code, title = Kind.GONE, "OR-0011", "The run's events are not kept any more"


class UnsupportedCombination(InvalidRequest):
    """A framework, mode and provider that do not go together; the detail names the supported ones."""

    kind, code, title = Kind.INVALID, "OR-0009", "Unsupported combination"
