"""Words that are nowhere else in the world, planted wherever a tenant keeps something, and where each may be seen.

One `Watch` looks at everything that comes out of a stack while tests use it (`WATCH`, of the whole session) and at all
that the stack has kept in the end (`tests.e2e.watching`).
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from enum import StrEnum
from uuid import uuid4

import msgspec

FORM = re.compile(rb"canary-[a-z]+-[0-9a-f]{32}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{64,}")


class Place(StrEnum):
    """What a tenant trusts the platform with."""

    MODEL_KEY = "key"
    PROMPT = "prompt"
    SETTING = "setting"
    SECRET_SETTING = "secret"
    PACKAGE = "package"
    CONVERSATION = "conversation"


SEALED = (Place.MODEL_KEY, Place.SECRET_SETTING)
ANSWERS, LOGS, POSTGRES, REDIS, MONGO, FILES = "answers", "logs", "rows", "Redis keys", "documents", "files"
PLATFORM_AUDIT = "/api/admin/audit"
MAY_BE_IN = {
    ANSWERS: {Place.PROMPT, Place.SETTING, Place.CONVERSATION},
    POSTGRES: {Place.PROMPT, Place.SETTING},
    REDIS: {Place.PROMPT, Place.SETTING, Place.CONVERSATION},
    MONGO: {Place.CONVERSATION},
    FILES: {Place.PACKAGE},
    LOGS: {Place.SETTING, Place.CONVERSATION, Place.PACKAGE},
}
"""Of the organization that it belongs to, that is; in a log only as what its own plugin printed. Nothing is in a
metric, in a message of the broker or in what a process was started with, and what is sealed is nowhere: no answer, no
store, no line.
"""


class Canary(msgspec.Struct, frozen=True):
    word: str
    place: Place
    org_id: str

    def __str__(self) -> str:
        return f"{self.place} of organization {self.org_id}"


class Watch:
    """`leaks` says what was found where it does not belong, `sightings` counts what was found where it does."""

    def __init__(self) -> None:
        self.leaks: set[str] = set()
        self.sightings: Counter[tuple[str, Place]] = Counter()
        self.looked_at: Counter[str] = Counter()
        self._canaries: dict[bytes, Canary] = {}
        self._members: dict[str, set[str]] = {}

    def plant(self, org_id: str, place: Place) -> str:
        """A new one, to be put there by the caller."""
        canary = Canary(f"canary-{place}-{uuid4().hex}", place, org_id)
        self._canaries[canary.word.encode()] = canary
        return canary.word

    def admit(self, org_id: str, user_id: str) -> None:
        """A user belongs to an organization, and may see of it what members may."""
        self._members.setdefault(org_id, set()).add(user_id)

    def hear(self, user_id: str, path: str, data: bytes) -> None:
        """Look at an answer, or at a part of it. Whoever belongs to several organizations asks about one at a time."""

        def belongs(canary: Canary) -> bool:
            if path.partition("?")[0] == PLATFORM_AUDIT and canary.place not in SEALED:
                # Administrators of the platform are told what was changed anywhere, and from what; secrets are masked.
                return True
            is_asked_about = f"/{canary.org_id}/" in path + "/"
            return is_asked_about and user_id in self._members.get(canary.org_id, ())

        self.see(ANSWERS, path, data, belongs)

    def see(
        self,
        kind: str,
        where: str,
        data: bytes,
        belongs: Callable[[Canary], bool] = lambda _: False,
        *,
        only: Collection[Place] = tuple(Place),
    ) -> None:
        """Look at anything else; `belongs` says whether it is something of the organization."""
        for word in words_in(data):
            canary = self._canaries.get(word)
            if canary is None or canary.place not in only:
                # Of another session on the same servers: whose it is cannot be told, nor whether it may be here.
                continue
            if canary.place in MAY_BE_IN.get(kind, ()) and belongs(canary):
                self.sightings[kind, canary.place] += 1
            else:
                self.leaks.add(f"{canary} in {kind}: {where}")

    def count(self, kind: str, number: int = 1) -> None:
        self.looked_at[kind] += number

    def assert_silent(self) -> None:
        """The one assertion: nothing of a tenant was anywhere that it does not belong."""
        assert not self.leaks, "a tenant's canaries are where they do not belong:\n" + "\n".join(sorted(self.leaks))

    def summary(self) -> str:
        """Empty when nothing was planted."""
        if not self._canaries:
            return ""
        organizations = len({canary.org_id for canary in self._canaries.values()})
        looked = ", ".join(f"{number} {kind}" for kind, number in sorted(self.looked_at.items()))
        return (
            f"{len(self._canaries)} canaries of {organizations} organizations; looked at {looked}; "
            f"seen {self.sightings.total()} times where they belong, {len(self.leaks)} places where they do not"
        )


def words_in(data: bytes) -> Iterator[bytes]:
    """Canaries in plain, and in base64 as bytes are written in JSON."""
    yield from FORM.findall(data)
    for run in _BASE64.findall(data):
        try:
            yield from FORM.findall(base64.b64decode(run + b"=" * (-len(run) % 4)))
        except binascii.Error:
            continue


WATCH = Watch()
