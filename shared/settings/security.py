"""Secrets and keys: what signs sessions, what workers show, what seals stored secrets."""

from pathlib import Path

import msgspec

from shared.environment_variables import PREFIX, Environment
from shared.secrets import SecretKeyring
from shared.security.key_wrapping import read_keys
from shared.settings.process import ProcessSettings
from shared.weak_secrets import weakness_of_secret

MIN_SECRET_CHARS = 32
"""RFC 7518 §3.2: an HS256 key has at least the size of the hash output, 256 bits."""


class VaultSettings(msgspec.Struct, frozen=True):
    """The key service, HashiCorp Vault or OpenBao. `token_file` is read for every request: an agent that renews the
    token writes it anew. `mount` is where the transit engine is.
    """

    url: str
    key_name: str
    token: str = ""
    token_file: Path | None = None
    mount: str = "transit"


class SecuritySettings(msgspec.Struct, frozen=True):
    """`secret_key` signs sessions, `worker_token` is what workers show to the control plane's `/internal` routes.

    `keyring` holds the key-encryption keys of the environment; those of `keys_file` come before them, and with `vault`
    both only open what they wrapped earlier.
    """

    secret_key: str
    jwt_algorithm: str
    access_token_minutes: int
    keyring: SecretKeyring
    worker_token: str
    keys_file: Path | None = None
    vault: VaultSettings | None = None


def read_security(env: Environment, process: ProcessSettings) -> SecuritySettings:
    def secret(text: str) -> str:
        if len(text) < MIN_SECRET_CHARS:
            raise ValueError(f"needs at least {MIN_SECRET_CHARS} characters")
        if process.is_production and (weakness := weakness_of_secret(text)):
            raise ValueError(weakness)
        return text

    def keys(text: str) -> SecretKeyring:
        keyring = SecretKeyring.parse(text)
        if process.is_production and keyring.weakness:
            raise ValueError(keyring.weakness)
        return keyring

    keys_file, vault = _keys_file(env, process), _vault(env, process)
    # Only where keys come from elsewhere may these be left out.
    default = "" if env.text("ENCRYPTION_KEYS_FILE") or vault else None
    return SecuritySettings(
        secret_key=env.parsed("SECRET_KEY", secret, ""),
        jwt_algorithm=env.choice("JWT_ALGORITHM", ("HS256",), "HS256"),
        access_token_minutes=env.integer("ACCESS_TOKEN_EXPIRE_MINUTES", 30, 1, 24 * 60),
        keyring=env.parsed("ENCRYPTION_KEYS", keys, SecretKeyring({}), default=default),
        worker_token=env.parsed("WORKER_TOKEN", secret, ""),
        keys_file=keys_file,
        vault=vault,
    )


def _keys_file(env: Environment, process: ProcessSettings) -> Path | None:
    def readable(text: str) -> Path:
        try:
            weakness = read_keys(Path(text)).weakness
            if process.is_production and weakness:
                raise ValueError(weakness)
        except OSError as error:
            raise ValueError(f"{text} cannot be read ({error.strerror})") from None
        return Path(text).resolve()

    return env.parsed("ENCRYPTION_KEYS_FILE", readable, None, default="")


def _vault(env: Environment, process: ProcessSettings) -> VaultSettings | None:
    if not env.text("VAULT_URL"):
        return None
    token_file = env.text("VAULT_TOKEN_FILE")
    if not token_file and not env.text("VAULT_TOKEN"):
        env.problems.append(f"{PREFIX}VAULT_URL needs {PREFIX}VAULT_TOKEN_FILE or {PREFIX}VAULT_TOKEN")
    return VaultSettings(
        url=env.url("VAULT_URL", schemes=("https",) if process.is_production else ("https", "http")).rstrip("/"),
        key_name=env.text("VAULT_KEY", default="cadence"),
        token=env.text("VAULT_TOKEN"),
        token_file=Path(token_file).resolve() if token_file else None,
        mount=env.text("VAULT_MOUNT", default="transit"),
    )
