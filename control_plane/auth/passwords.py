"""Password hashing with argon2id, off the event loop and never more than a few at once."""

import asyncio
import secrets

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

MEMORY_KIB = 19 * 1024
ITERATIONS = 2
LANES = 1
"""OWASP's password storage recommendation for argon2id: 19 MiB, two passes, one lane."""

CONCURRENT_HASHES = 2
"""Each hash takes a core and 19 MiB for some 30 ms; more at once would only starve the requests beside them."""


class Passwords:
    """Hashes and checks passwords. A check against no hash at all takes as long as a real one."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, iterations: int = ITERATIONS) -> None:
        self._hasher = PasswordHasher(time_cost=iterations, memory_cost=memory_kib, parallelism=LANES, type=Type.ID)
        self._slots = asyncio.Semaphore(CONCURRENT_HASHES)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(24))

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, encoded: str | None) -> bool:
        """Whether the password is the one `encoded` was made from; None stands for a user who does not exist."""
        async with self._slots:
            is_right = await asyncio.to_thread(self._verify, password, encoded or self._nobody)
        return is_right and encoded is not None

    def is_outdated(self, encoded: str) -> bool:
        """Whether a hash was made with weaker parameters than today's."""
        return self._hasher.check_needs_rehash(encoded)

    def _verify(self, password: str, encoded: str) -> bool:
        try:
            return self._hasher.verify(encoded, password)
        except (VerificationError, InvalidHashError):
            return False
