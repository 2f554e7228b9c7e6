"""What a stack on this machine invents once and keeps: its keys, and the first admin's password."""

import secrets

import msgspec

from deploy.errors import DataDirectoryUnusable
from deploy.stack.data_dir import DataDirectory, write_private

ADMIN_USERNAME = "admin"
ADMIN_EMAIL = "admin@cadence.local"
_PASSWORD_BYTES = 15
"""120 bits, which is 20 characters."""


class StackSecrets(msgspec.Struct, frozen=True):
    """`is_admin_created` turns true once the control plane has the account; the password is kept from before that."""

    secret_key: str
    encryption_keys: str
    worker_token: str
    admin_username: str
    admin_email: str
    admin_password: str
    is_admin_created: bool = False


def load_or_create(directory: DataDirectory) -> StackSecrets:
    """Raises DataDirectoryUnusable: with the keys gone, what they sealed in the database cannot be read either."""
    try:
        content = directory.secrets_file.read_bytes()
    except FileNotFoundError:
        if (directory.path / "postgres" / "PG_VERSION").exists():
            raise DataDirectoryUnusable(
                f"{directory.secrets_file} is missing, and the data beside it was sealed with its keys:"
                f" put the file back, or start anew with another --data-dir."
            ) from None
        created = _invent()
        save(directory, created)
        return created
    except OSError as error:
        raise DataDirectoryUnusable(f"{directory.secrets_file} cannot be read: {error.strerror}.") from None
    try:
        return msgspec.json.decode(content, type=StackSecrets)
    except msgspec.DecodeError as error:
        raise DataDirectoryUnusable(
            f"{directory.secrets_file} is damaged ({error}): restore it, or start anew with another --data-dir."
        ) from None


def save(directory: DataDirectory, stack_secrets: StackSecrets) -> None:
    write_private(directory.secrets_file, msgspec.json.format(msgspec.json.encode(stack_secrets)))


def _invent() -> StackSecrets:
    return StackSecrets(
        secret_key=secrets.token_hex(32),
        encryption_keys=f"local:{secrets.token_hex(32)}",
        worker_token=secrets.token_hex(32),
        admin_username=ADMIN_USERNAME,
        admin_email=ADMIN_EMAIL,
        admin_password=secrets.token_urlsafe(_PASSWORD_BYTES),
    )
