"""A client that does not read costs nobody anything, and can still have everything."""

import asyncio
import json
import socket
from urllib.parse import urlsplit

from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.stream.run_stream import MAX_WAITING_BYTES
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.pairs import resumed, text_of
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually

FRAGMENT = "x" * 2000
FRAGMENTS = 4000
"""8 MB: twice what the kernel takes on its own for a client that does not read."""


class SlowClient:
    """Asks for a stream with the smallest receive buffer there is and then reads one byte at a time, when told to."""

    def __init__(self, caller: Caller, instance_id: object) -> None:
        self._caller = caller
        self._path = f"/orchestrators/{instance_id}/completion/stream"
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)

    async def ask(self) -> None:
        loop = asyncio.get_running_loop()
        url = urlsplit(self._caller.url)
        await loop.sock_connect(self._socket, (url.hostname, url.port))
        body = json.dumps({"message": "go"}).encode()
        head = (
            f"POST {url.path}{self._path} HTTP/1.1\r\nHost: worker\r\nContent-Type: application/json\r\n"
            f"Authorization: {self._caller.headers['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        await loop.sock_sendall(self._socket, head.encode() + body)

    async def read(self, size: int = 1) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, size)

    async def is_dropped(self) -> bool:
        """Whether the connection ends once what the kernel has already is read."""
        try:
            while await self.read(1 << 20):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self._socket.close()


async def test_a_client_that_reads_a_byte_now_and_then_is_dropped_at_a_bound_and_resumes(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    waiting: list[int] = []
    is_done = asyncio.Event()

    async def talkative(request: RunRequest, sink: EventSink) -> None:
        if request.message != "go":
            await say(sink, "quick")
            return
        await sink.recorded()
        run = await eventually(lambda: worker.worker.table.find(request.run_id))
        for number in range(FRAGMENTS):
            await say(sink, FRAGMENT)
            waiting.append(run.stream.waiting_bytes)
            if number % 50 == 0:
                # As long as a model's pauses: who reads at all gets everything meanwhile.
                await asyncio.sleep(0.005)
        is_done.set()

    builder.script = talkative
    client = SlowClient(member, instance.instance_id)
    await client.ask()
    run_id = await eventually(lambda: next((str(r.run_id) for r in worker.worker.table.all()), None))
    while not is_done.is_set():
        await client.read()
        # The others do not notice.
        status, answer = await member.chat(instance.instance_id, "hi")
        assert (status, answer["response"]) == (200, "quick")
    assert 0 < max(waiting) <= MAX_WAITING_BYTES
    assert waiting[-1] == 0
    assert await asyncio.wait_for(client.is_dropped(), 10)
    client.close()
    # The run went on without it.
    events = await resumed(member, run_id)
    assert text_of(events) == FRAGMENT * FRAGMENTS
    assert events[-1].data["status"] == "completed"


async def test_a_burst_is_not_taken_for_a_slow_client(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    async def burst(request: RunRequest, sink: EventSink) -> None:
        for number in range(4):
            call = str(number)
            sink.tool_start("fetch", call, {})
            sink.tool_end("fetch", call, duration_ms=1, result="y" * MAX_WAITING_BYTES)
        await say(sink, "end")

    builder.script = burst
    events = await member.stream(instance.instance_id, "go")
    assert (text_of(events), events[-1].data["status"]) == ("end", "completed")
