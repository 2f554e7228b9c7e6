"""The place of the key-encryption keys that the settings name."""

from shared.security.key_wrapping import KeyWrapping, LocalWrapping
from shared.settings import SecuritySettings


def open_wrapping(settings: SecuritySettings) -> KeyWrapping:
    """Connects to nothing yet. Whoever opens it closes it."""
    local = LocalWrapping(settings.keyring, settings.keys_file)
    if settings.vault is None:
        return local
    # The HTTP client, only where there is a service to ask.
    from shared.security.vault import VaultTransit

    return VaultTransit(settings.vault, local)
