"""One tree of domain errors. Each has a kind, from which the edges choose a status, and a stable public code.

Codes are `PREFIX-NNNN`: SY system, VA validation, AU authentication, AZ authorization, RE resource, RL rate limit,
OR orchestrator, PL plugin, LL model, DB store, CF configuration. The tree below is the catalogue: every code belongs
to exactly one class (a test holds it), and the OpenAPI document lists them from here.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar

import msgspec


class Kind(StrEnum):
    """What sort of trouble it is; HTTP statuses and message dispositions are chosen from this, never from the class."""

    MALFORMED = "malformed"
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    GONE = "gone"
    STALE = "stale"
    TOO_LARGE = "too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNSUPPORTED = "unsupported"
    LIMITED = "limited"
    NOT_READY = "not_ready"
    UPSTREAM = "upstream"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one field. `field` is a dotted path (`config.mode_config.max_tool_rounds`)."""

    field: str
    code: str
    message: str


class DomainError(Exception):
    """Base of everything Cadence refuses or fails at on purpose.

    `detail` is written for the person who reads it and is shown to callers: no secret, no internals.
    `retryable` says whether the very same request may succeed later; `retry_after_seconds` says when.
    """

    kind: ClassVar[Kind] = Kind.INTERNAL
    code: ClassVar[str] = "SY-0001"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.detail)


def catalogue() -> Iterator[type[DomainError]]:
    """Every error class that has a code of its own, in definition order."""
    seen: set[type[DomainError]] = set()
    stack: list[type[DomainError]] = [DomainError]
    while stack:
        cls = stack.pop(0)
        if cls in seen:
            continue
        seen.add(cls)
        if "code" in vars(cls):
            yield cls
        stack.extend(cls.__subclasses__())


def error_for(code: str, detail: str) -> DomainError:
    """The error that was stored or sent as its code and words."""
    kind = next((cls for cls in catalogue() if cls.code == code), DomainError)
    return kind(detail)


# --- SY: the system itself ---------------------------------------------------------------------------------------


class Draining(DomainError):
    """This process is shutting down and takes no new work."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0002", "Shutting down", True


class MethodNotAllowed(DomainError):
    kind, code, title = Kind.METHOD_NOT_ALLOWED, "SY-0003", "Method not allowed"


class NoLiveWorker(DomainError):
    """The gateway knows no worker that could serve the request."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0004", "No runtime worker is available", True


class WorkerConnectionLost(DomainError):
    """The worker's connection broke before it answered anything and no other worker could be tried."""

    kind, code, title, retryable = Kind.UPSTREAM, "SY-0005", "The runtime worker did not answer", True


class BrokerUnavailable(DomainError):
    """The message broker took no event, or did not confirm it. The outbox keeps it; no caller's request fails."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0006", "The message broker is unavailable", True


class WorkerBusy(DomainError):
    """This worker runs as many turns at once as it can."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0007", "The runtime worker is at its limit", True


class HeadersTooLarge(DomainError):
    """The request's headers are more than any caller of ours sends; nothing of it was looked at."""

    kind, code, title = Kind.HEADERS_TOO_LARGE, "SY-0008", "The request's headers are too large"


# --- VA: what came in --------------------------------------------------------------------------------------------


class MalformedRequest(DomainError):
    kind, code, title = Kind.MALFORMED, "VA-0001", "Malformed request"


class InvalidRequest(DomainError):
    """Well-formed but breaks a rule; `errors` names every field."""

    kind, code, title = Kind.INVALID, "VA-0002", "The request breaks a rule"


class BodyTooLarge(DomainError):
    kind, code, title = Kind.TOO_LARGE, "VA-0003", "The request body is too large"


class UnsupportedMediaType(DomainError):
    kind, code, title = Kind.UNSUPPORTED, "VA-0004", "Unsupported media type"


class ImmutableField(InvalidRequest):
    kind, code, title = Kind.INVALID, "VA-0005", "The field cannot be changed"


class IdempotencyKeyReused(DomainError):
    """The same Idempotency-Key came with a different request."""

    kind, code, title = Kind.CONFLICT, "VA-0006", "The idempotency key was used for another request"


# --- AU / AZ: who is calling -------------------------------------------------------------------------------------


class NotAuthenticated(DomainError):
    kind, code, title = Kind.UNAUTHENTICATED, "AU-0001", "No valid session"


class WrongCredentials(DomainError):
    """The same for an unknown user and a wrong password, so that neither can be told from the other."""

    kind, code, title = Kind.UNAUTHENTICATED, "AU-0002", "Wrong username or password"


class SingleSignOnRefused(DomainError):
    """The OpenID provider did not vouch for the caller, or not in a way that can be believed."""

    kind, code, title = Kind.UNAUTHENTICATED, "AU-0003", "The single sign-on did not succeed"


class IdentityProviderUnavailable(DomainError):
    """The OpenID provider does not answer, or not as one."""

    kind, code, title, retryable = Kind.UPSTREAM, "AU-0004", "The identity provider does not answer", True


class ConversationTokenRefused(DomainError):
    """A guest's conversation token is not ours, is for another central point, or has expired."""

    kind, code, title = Kind.UNAUTHENTICATED, "AU-0005", "The conversation token is not valid"


class LocalPasswordsOff(DomainError):
    """This deployment logs people in at its identity provider only."""

    kind, code, title = Kind.FORBIDDEN, "AZ-0003", "Passwords are switched off"


class PermissionMissing(DomainError):
    kind, code, title = Kind.FORBIDDEN, "AZ-0001", "Permission missing"


class OrganizationSuspended(DomainError):
    kind, code, title = Kind.FORBIDDEN, "AZ-0002", "The organization is suspended"


# --- RE: resources -----------------------------------------------------------------------------------------------


class NotFound(DomainError):
    """Unknown, or somebody else's: a caller cannot tell which."""

    kind, code, title = Kind.NOT_FOUND, "RE-0001", "Not found"


class AlreadyExists(DomainError):
    kind, code, title = Kind.CONFLICT, "RE-0002", "Already exists"


class InUse(DomainError):
    """Something else still refers to it."""

    kind, code, title = Kind.CONFLICT, "RE-0003", "Still in use"


class StaleRevision(DomainError):
    """`If-Match` names a revision that is no longer the current one."""

    kind, code, title = Kind.STALE, "RE-0004", "Changed by somebody else in the meantime"


class Conflict(DomainError):
    """The state of the resource does not allow it."""

    kind, code, title = Kind.CONFLICT, "RE-0005", "The current state does not allow this"


class Gone(DomainError):
    kind, code, title = Kind.GONE, "RE-0006", "Deactivated"


class LastAdmin(DomainError):
    """An organization keeps at least one admin."""

    kind, code, title = Kind.CONFLICT, "RE-0007", "An organization keeps at least one admin"


# --- RL ----------------------------------------------------------------------------------------------------------


class RateLimited(DomainError):
    """`limit` is how many are allowed in the window and `remaining` how many are left, where the limiter knows."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0001", "Too many requests", True

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after_seconds: float | None = None,
        limit: int | None = None,
        remaining: int = 0,
    ) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.limit = limit
        self.remaining = remaining


class TooManyRuns(RateLimited):
    """The organization has as many runs at once as its tier allows."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0003", "Too many runs at once", True


class MessagesSpent(RateLimited):
    """The messages of a day or a month are used up."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0004", "No messages left", True


class TokensSpent(RateLimited):
    """The tokens of a day or a month are used up, or set aside by runs that are going on."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0005", "No tokens left", True


class BudgetSpent(RateLimited):
    """The budget of an organization or an API key is used up, or set aside by runs that are going on."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0006", "The budget is used up", True


class QuotaReached(DomainError):
    """The organization has as many of these as its tier allows. Waiting does not help: one has to go first."""

    kind, code, title = Kind.CONFLICT, "RL-0002", "The quota of the organization's tier is reached"


# --- OR: orchestrators and their runs ----------------------------------------------------------------------------


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


# --- PL: plugins -------------------------------------------------------------------------------------------------


class PluginNotFound(DomainError):
    kind, code, title = Kind.NOT_FOUND, "PL-0001", "No such plugin"


class PluginVersionExists(DomainError):
    kind, code, title = Kind.CONFLICT, "PL-0002", "This version of the plugin exists already"


class PluginRefused(InvalidRequest):
    """An upload that breaks the package contract; `errors` lists every reason, in an author's words."""

    kind, code, title = Kind.INVALID, "PL-0003", "The plugin package was refused"


class PluginSettingsInvalid(InvalidRequest):
    kind, code, title = Kind.INVALID, "PL-0004", "Plugin settings are not valid"


class PluginLoadFailed(DomainError):
    """A worker could not fetch, verify or import a package."""

    kind, code, title, retryable = Kind.NOT_READY, "PL-0005", "The plugin could not be loaded", True


class ToolFailed(DomainError):
    """A tool raised, timed out or was called badly; the model is told, the run goes on."""

    kind, code, title = Kind.UPSTREAM, "PL-0006", "The tool failed"


class DependenciesUnavailable(PluginLoadFailed):
    """What a plugin depends on cannot be had: no such version, no wheel for this platform, other bytes than locked."""

    kind, code, title, retryable = Kind.NOT_READY, "PL-0007", "The plugin's dependencies cannot be installed", True


class PackageIndexUnavailable(DependenciesUnavailable):
    kind, code, title, retryable = Kind.NOT_READY, "PL-0008", "The package index does not answer", True


class MCPServerUnavailable(DomainError):
    """An MCP server cannot be reached, or what it answers cannot be used. The detail repeats nothing that it sent."""

    kind, code, title, retryable = Kind.UPSTREAM, "PL-0009", "The MCP server cannot be used", True


# --- LL: models --------------------------------------------------------------------------------------------------


class ModelError(DomainError):
    """Base for what an upstream model did to us. The detail never repeats what the upstream sent verbatim."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0001", "The model request failed", True


class ModelCredentialRefused(ModelError):
    kind, code, title, retryable = Kind.UPSTREAM, "LL-0002", "The model provider refused the credential", False


class ModelRateLimited(ModelError):
    kind, code, title, retryable = Kind.UPSTREAM, "LL-0003", "The model provider limits the rate", True


class ModelRequestRefused(ModelError):
    """400, 404, 422 from upstream: the request itself (model name, parameters, context length) is not accepted."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0004", "The model provider refused the request", False


class ModelUnavailable(ModelError):
    """5xx, no connection, or the address may not be called."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0005", "The model provider is unavailable", True


class ModelProtocolError(ModelError):
    """The answer is not what the wire format promises: garbage, or a stream that stops in the middle."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0006", "The model provider's answer cannot be read", True


class ModelTimedOut(ModelError):
    kind, code, title, retryable = Kind.TIMEOUT, "LL-0007", "The model took too long", True


class ModelAddressRefused(InvalidRequest):
    """`base_url` is not an address the platform may call (SSRF)."""

    kind, code, title = Kind.INVALID, "LL-0008", "This base_url cannot be used"


# --- DB / CF -----------------------------------------------------------------------------------------------------


class StoreUnavailable(DomainError):
    """PostgreSQL, MongoDB, Redis or the package store does not answer right now."""

    kind, code, title, retryable = Kind.NOT_READY, "DB-0001", "A data store is unavailable", True


class ConfigurationInvalid(DomainError):
    """A process cannot start with the settings it was given."""

    kind, code, title = Kind.INVALID, "CF-0001", "Invalid configuration"


class SecretUnreadable(DomainError):
    """A sealed value cannot be opened: unknown key id, or the ciphertext belongs to another row."""

    kind, code, title = Kind.INTERNAL, "CF-0002", "A stored secret cannot be opened"


class SettingFixed(InvalidRequest):
    """A tier above does not let this setting be changed; `errors` names it and the tier."""

    kind, code, title = Kind.INVALID, "CF-0003", "A setting is fixed by a tier above"


class KeyServiceUnavailable(StoreUnavailable):
    """The service that holds the key-encryption keys does not answer. Nothing can be sealed or opened until it does."""

    kind, code, title, retryable = Kind.NOT_READY, "CF-0004", "The key service does not answer", True
