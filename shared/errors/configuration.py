"""CF: what a process or a tenant is configured with, and the keys it is sealed with."""

from shared.errors.base import DomainError, Kind
from shared.errors.requests import InvalidRequest
from shared.errors.system import StoreUnavailable


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
