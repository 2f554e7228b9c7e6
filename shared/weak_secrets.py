"""Secrets that anybody would try first. Production does not start with one."""

from itertools import pairwise
from urllib.parse import unquote, urlsplit

MIN_DIFFERENT_CHARS = 10
_USUAL = frozenset(
    {
        *("admin", "cadence", "changeme", "change-me", "default", "guest", "minio", "minioadmin", "mongo", "mongodb"),
        *("pass", "password", "postgres", "rabbitmq", "redis", "root", "secret", "test", "user"),
    }
)
_PLACEHOLDERS = ("changeme", "change-me", "change_me", "placeholder", "example", "your-", "insert-", "replace")
_GENERATE = "generate one with `openssl rand -hex 32`"


def weakness_of_secret(text: str) -> str | None:
    """What is wrong with a secret of our own, without repeating it."""
    lowered = text.lower()
    if len(set(text)) < MIN_DIFFERENT_CHARS or any(word in lowered for word in _PLACEHOLDERS):
        return f"looks like a placeholder; {_GENERATE}"
    return None


def weakness_of_key(key: bytes) -> str | None:
    """The same for the bytes of an encryption key."""
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    if len(steps) <= 1 or len(set(key)) < MIN_DIFFERENT_CHARS:
        return f"holds a key that is not random; {_GENERATE}"
    return None


def weakness_of_password(password: str | None) -> str | None:
    """The same for what another server asks for."""
    return "is one that everybody tries first" if (password or "").lower() in _USUAL else None


def weakness_of_url(url: str) -> str | None:
    """The same for the password in a URL. One without a password says nothing: the server may know its callers."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return None
    weakness = weakness_of_password(unquote(password)) if password else None
    return f"the password in it {weakness}" if weakness else None
