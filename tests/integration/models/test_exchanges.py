"""What may come over a connection to a model, and who gets that connection next."""

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

import pytest

from runtime_worker.models import connections as connections_module
from runtime_worker.models import exchange as exchange_module
from runtime_worker.models.base import ModelClient
from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.exchange import Address, Exchange
from runtime_worker.models.registry import ModelRegistry
from shared.errors import ModelError
from shared.ids import new_id
from tests.fakes.certificates import certificate_of, serving
from tests.fakes.instances import KEYRING, llm_config_snapshot
from tests.fakes.raw_server import Bytes, RawServer, answer
from tests.fakes.resolver import FixedResolver
from tests.integration.models.asking import request

TEXT = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
HELLO = answer(TEXT, STOP, DONE)
ASKING: ContextVar[str] = ContextVar("asking", default="nobody")


@pytest.fixture
def to(model_registry: ModelRegistry) -> Callable[[RawServer], ModelClient]:
    return lambda server: model_registry.acquire(llm_config_snapshot(server.url), "m", new_id())


To = Callable[[RawServer], ModelClient]


async def said(client: ModelClient) -> str:
    """What the model answers, or the code of the error."""
    try:
        async with asyncio.timeout(5):
            return (await client.complete(request())).content
    except ModelError as error:
        return error.code


async def test_what_comes_behind_an_answer_is_no_part_of_the_next_one(to: To) -> None:
    """Connections are shared by everybody who calls the same address."""
    forged = answer(TEXT.replace(b"hello", b"forged"), DONE)
    for first in (Bytes(HELLO + forged), Bytes(HELLO, later=forged), Bytes(HELLO + b"garbage")):
        async with RawServer(first, Bytes(HELLO)) as server:
            client = to(server)
            assert await said(client) == "hello"
            await server.until_all_is_read_of(1)
            assert await said(client) == "hello"
            assert server.connections == [1, 2]


async def test_a_connection_that_the_server_gives_up_is_not_used_again(to: To) -> None:
    async with RawServer(
        Bytes(answer(TEXT, DONE, headers=[b"Connection: close"])), Bytes(HELLO, hangs_up=True), Bytes(HELLO)
    ) as server:
        client = to(server)
        for count in range(1, 4):
            assert await said(client) == "hello"
            await server.until_all_is_read_of(count)
        assert server.connections == [1, 2, 3]


async def test_one_that_ends_before_it_answers_is_tried_again(to: To) -> None:
    async with RawServer(Bytes(HELLO), Bytes(b"", hangs_up=True), Bytes(b"SSH-2.0\r\n"), Bytes(HELLO)) as server:
        client = to(server)
        assert [await said(client), await said(client)] == ["hello", "hello"]
        assert server.connections == [1, 1, 2, 3]


async def test_an_answer_is_there_when_it_says_so_and_its_connection_when_it_has_ended(
    to: To, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "END_SECONDS", 60)
    body = HELLO[: -len(b"0\r\n\r\n")]
    async with RawServer(Bytes(body, later=b"0\r\n\r\n"), Bytes(HELLO)) as server:
        client = to(server)
        assert await said(client) == "hello"
        await server.until_all_is_read_of(1)
        assert await said(client) == "hello"
        assert server.connections == [1, 1]


async def test_one_whose_end_does_not_come_is_hung_up_on(to: To) -> None:
    async with RawServer(Bytes(HELLO[: -len(b"0\r\n\r\n")]), Bytes(HELLO)) as server:
        client = to(server)
        assert await said(client) == "hello"
        async with asyncio.timeout(5):
            await server.hung_up.wait()
        assert await said(client) == "hello"
        assert server.connections == [1, 2]


async def test_a_refusal_that_was_read_leaves_its_connection_to_the_next_call(to: To) -> None:
    refusal = answer(b'{"error":{"message":"no"}}', status=b"401 Unauthorized")
    async with RawServer(Bytes(refusal), Bytes(HELLO)) as server:
        client = to(server)
        assert [await said(client), await said(client)] == ["LL-0002", "hello"]
        assert server.connections == [1, 1]


@pytest.mark.parametrize(
    "body", [b"x" * 100_000, b"x" * exchange_module.MAX_ERROR_BODY_BYTES, b"x"], ids=["too much", "exactly", "no end"]
)
async def test_a_refusal_without_end_is_told_with_what_is_there(
    to: To, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "ERROR_BODY_SECONDS", 0.05 if len(body) == 1 else 60)
    head = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 1000000\r\n\r\n"
    async with RawServer(Bytes(head + body)) as server:
        assert await said(to(server)) == "LL-0002"
        async with asyncio.timeout(5):
            await server.hung_up.wait()


@pytest.mark.parametrize("rest", [b"", b"not a chunk"])
async def test_a_refusal_that_breaks_off_is_one_all_the_same(to: To, rest: bytes) -> None:
    head = b"HTTP/1.1 %b\r\ntransfer-encoding: chunked\r\n\r\n"
    unavailable = Bytes((head + rest) % b"503 Service Unavailable", hangs_up=True)
    async with RawServer(unavailable, Bytes((head + rest) % b"401 Unauthorized", hangs_up=True)) as server:
        # The first is tried again.
        assert await said(to(server)) == "LL-0002"
        assert server.connections == [1, 2]


async def test_a_body_may_end_with_its_connection(to: To) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with RawServer(
        Bytes(head + TEXT + STOP, hangs_up=True),
        Bytes(head + TEXT, hangs_up=True),
        Bytes(head.replace(b"\r\n\r\n", b"\r\ncontent-length: 9999\r\n\r\n") + TEXT + STOP, hangs_up=True),
    ) as server:
        client = to(server)
        assert [await said(client) for _ in range(3)] == ["hello", "LL-0006", "LL-0006"]


async def test_what_only_announces_an_answer_is_none(to: To) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Encoding: gzip\r\n\r\n"
    async with RawServer(Bytes(b"HTTP/1.1 100 Continue\r\n\r\n" + hints, later=HELLO), Bytes(HELLO)) as server:
        client = to(server)
        assert [await said(client), await said(client)] == ["hello", "hello"]
        assert server.connections == [1, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n" + TEXT,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
    ],
    ids=["no chunks", "headers without end", "announced without end"],
)
async def test_what_cannot_be_read_is_a_protocol_error_and_hung_up_on(to: To, data: bytes) -> None:
    async with RawServer(Bytes(data)) as server:
        assert await said(to(server)) == "LL-0006"
        async with asyncio.timeout(5):
            await server.hung_up.wait()
        assert len(server.requests) == 1


async def test_chunks_may_be_written_the_way_old_servers_do(to: To) -> None:
    body = b"".join(b"%x  \r\n%b\r\n" % (len(piece), piece) for piece in (TEXT, STOP, DONE)) + b"0\r\n\r\n"
    async with RawServer(Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)) as server:
        assert await said(to(server)) == "hello"


async def test_what_a_model_says_is_heard_where_it_was_asked(to: To) -> None:
    """Two that use the same connection one after the other, each with a context of its own."""
    async with RawServer(Bytes(HELLO), Bytes(HELLO)) as server:
        client = to(server)
        heard: list[str] = []

        async def ask(name: str) -> None:
            ASKING.set(name)
            await client.complete(request(), lambda _: heard.append(ASKING.get()))

        await asyncio.create_task(ask("one"))
        await asyncio.create_task(ask("other"))
        assert (heard, server.connections) == (["one", "other"], [1, 1])


async def test_connections_can_be_closed_while_a_model_answers() -> None:
    async with RawServer(Bytes(answer(TEXT)[:-5])) as server, ModelConnections(allow_private=True) as connections:
        client = ModelRegistry(connections, KEYRING).acquire(llm_config_snapshot(server.url), "m", new_id())
        begun = asyncio.Event()
        running = asyncio.create_task(client.complete(request(), lambda _: begun.set()))
        async with asyncio.timeout(5):
            await begun.wait()
            await connections.close()
            with pytest.raises(ModelError):
                await running


async def test_a_compressed_answer_is_a_protocol_error(to: To) -> None:
    async with RawServer(Bytes(answer(TEXT, DONE, headers=[b"Content-Encoding: gzip"]))) as server:
        assert await said(to(server)) == "LL-0006"


async def test_a_header_cannot_smuggle_another_one() -> None:
    with pytest.raises(ValueError, match="line break"):
        Address("http://models.example", {"Authorization": "Bearer a\r\nX-Admin: yes"})


async def test_a_request_says_where_it_goes_and_what_it_is(to: To) -> None:
    async with RawServer(Bytes(HELLO)) as server:
        await said(to(server))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        assert line == b"POST /v1/chat/completions HTTP/1.1"
        names = [header.partition(b":")[0].lower() for header in headers]
        assert len(names) == len(set(names))
        assert {b"host", b"authorization", b"content-type", b"accept", b"user-agent"} < set(names)
        assert b"Host: 127.0.0.1:%d" % server.port in headers
        assert b"Content-Length: %d" % len(body) in headers


async def test_an_encrypted_connection_is_used_again_and_only_where_its_certificate_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificate_of("models.example", tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(connections_module, "_tls_context", lambda: trusting)
    async with (
        RawServer(*[Bytes(HELLO)] * 3, tls=serving(certificate)) as server,
        ModelConnections(allow_private=True, resolver=FixedResolver("127.0.0.1")) as connections,
    ):
        registry = ModelRegistry(connections, KEYRING)
        right = registry.acquire(llm_config_snapshot(f"https://models.example:{server.port}/v1"), "m", new_id())
        wrong = registry.acquire(llm_config_snapshot(f"https://other.example:{server.port}/v1"), "m", new_id())
        assert [await said(right) for _ in range(3)] == ["hello"] * 3
        assert await said(wrong) == "LL-0005"
        assert server.connections == [1, 1, 1]


async def test_an_exchange_that_is_over_keeps_nothing_for_the_collector(model_connections: ModelConnections) -> None:
    class Deaf:
        def begin(self) -> None: ...

        def read(self, piece: bytes) -> bool:
            return b"[DONE]" in piece

        def end(self) -> None: ...

    refusal = answer(b"no", status=b"500 No")
    async with RawServer(Bytes(HELLO), Bytes(refusal)) as server:
        address = Address(server.url, {})
        for _ in range(2):
            gc.collect()
            gc.disable()
            try:
                exchange = Exchange(await model_connections.lend(address.request), Deaf())
                await exchange.ask(address.message(b"{}"))
                is_there = weakref.ref(exchange)
                del exchange
                await asyncio.sleep(0.05)
                assert is_there() is None
            finally:
                gc.enable()
