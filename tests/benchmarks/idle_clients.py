"""Many clients of one worker that wait for an answer that does not come yet, on bare sockets.

Alone, it is the other process of `idle_streams`: reads an `IdlePlan` as JSON from standard input, opens everything, and
writes a line when each client has its first event, and when each has heard a heartbeat. Then it answers every line with
how many have not ended yet, until there are none.
"""

import asyncio
import sys
from urllib.parse import urlsplit

import msgspec
import uvloop

OPENING_AT_ONCE = 50


class IdlePlan(msgspec.Struct, frozen=True):
    """`url` is that of the completion, `authorization` the header's value."""

    url: str
    authorization: str
    clients: int


class IdleClient:
    """One connection. Each of the waits below returns when what it waits for has come."""

    def __init__(self, plan: IdlePlan) -> None:
        self._plan = plan
        self._seen = b""
        self.has_begun = asyncio.Event()
        self.has_heard = asyncio.Event()
        self.has_ended = self.has_ended_well = False

    async def run(self, slots: asyncio.Semaphore) -> None:
        url = urlsplit(self._plan.url)
        async with slots:
            reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=4096)
            body = b'{"message":"go"}'
            head = (
                f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
                f"Connection: close\r\nAuthorization: {self._plan.authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await self._until(reader, b"event: metadata", self.has_begun)
        await self._until(reader, b": keep-alive", self.has_heard)
        while chunk := await reader.read(4096):
            self._seen = self._seen[-1024:] + chunk
        self.has_ended = True
        self.has_ended_well = b'"final":true' in self._seen and b'"status":"completed"' in self._seen
        writer.close()

    async def _until(self, reader: asyncio.StreamReader, what: bytes, event: asyncio.Event) -> None:
        while what not in self._seen:
            chunk = await reader.read(4096)
            assert chunk, self._seen
            self._seen += chunk
        self._seen = self._seen.partition(what)[2]
        event.set()


class IdleClients:
    """All of them; `run` takes until the last has ended."""

    def __init__(self, plan: IdlePlan) -> None:
        self.clients = [IdleClient(plan) for _ in range(plan.clients)]

    async def run(self) -> None:
        slots = asyncio.Semaphore(OPENING_AT_ONCE)
        await asyncio.gather(*(client.run(slots) for client in self.clients))

    async def begun(self) -> None:
        await asyncio.gather(*(client.has_begun.wait() for client in self.clients))

    async def heard(self) -> None:
        await asyncio.gather(*(client.has_heard.wait() for client in self.clients))

    @property
    def waiting(self) -> int:
        return sum(not client.has_ended for client in self.clients)

    @property
    def ended_well(self) -> int:
        return sum(client.has_ended_well for client in self.clients)


async def _main() -> None:
    clients = IdleClients(msgspec.json.decode(sys.stdin.buffer.readline(), type=IdlePlan))
    running = asyncio.create_task(clients.run())
    for wait in (clients.begun(), clients.heard()):
        waiting = asyncio.create_task(wait)
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        await waiting
        print("ok", flush=True)
    answering = asyncio.create_task(_answer(clients))
    await running
    await answering
    print(clients.ended_well, flush=True)


async def _answer(clients: IdleClients) -> None:
    waiting = len(clients.clients)
    while waiting:
        await asyncio.to_thread(sys.stdin.buffer.readline)
        waiting = clients.waiting
        print(waiting, flush=True)


if __name__ == "__main__":
    uvloop.run(_main())
