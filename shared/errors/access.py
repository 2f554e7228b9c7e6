"""AU, AZ: who is calling, and what they may."""

from shared.errors.base import DomainError, Kind


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
