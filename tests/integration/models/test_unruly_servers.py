"""Whatever a server does to its connections, which all callers of its address share, each hears what it is told."""

import asyncio
import re
from collections import Counter
from random import Random

from runtime_worker.models.base import ModelClient, ModelMessage, ModelRequest
from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from shared.errors import ModelError
from shared.ids import new_id
from tests.fakes.instances import KEYRING, llm_config_snapshot
from tests.fakes.raw_server import answer

CALLERS, CALLS = 20, 25
_NAME = re.compile(rb"name-\d+-\d+;")
_LENGTH = re.compile(rb"content-length: (\d+)", re.I)


class UnrulyServer:
    """Answers a question with the name that is in it, twice, and more often than not spoils the connection."""

    def __init__(self, random: Random) -> None:
        self._random = random

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                assert length
                name = _NAME.search(await reader.readexactly(int(length[1])))
                assert name
                for data in self._said(name[0]):
                    writer.write(data)
                    await asyncio.sleep(self._random.random() * 0.003)
        except (ConnectionError, RuntimeError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _said(self, name: bytes) -> tuple[bytes, ...]:
        random = self._random
        whole, forged = _answer_of(name), _answer_of(b"name-forged;")
        cut = random.randrange(1, len(whole))
        match random.randrange(10):
            case 0 | 1 | 2 | 3:
                return whole[:cut], whole[cut:]
            case 4:
                return (whole + forged,)
            case 5:
                return whole + forged[:cut], forged[cut:]
            case 6:
                return whole, b"HTTP/1.1 408 Request Timeout\r\n\r\n"
            case 7:
                return whole[:cut], random.randbytes(random.randrange(1, 300))
            case 8:
                return (whole[: -len(b"0\r\n\r\n")],)
            case _:
                status = random.choice([b"400 No", b"401 No", b"503 No"])
                return (answer(b"x" * random.randrange(40_000), status=status),)


def _answer_of(name: bytes) -> bytes:
    word = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % name
    return answer(word, word, b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n")


async def _told(client: ModelClient, name: str, patience: float) -> str:
    """How a call ends. What was said until then was said to the caller."""
    heard: list[str] = []
    message = ModelMessage("user", name)
    try:
        async with asyncio.timeout(patience):
            whole = await client.complete(ModelRequest(messages=(message,), timeout_seconds=0.3), heard.append)
        assert whole.content == name * 2
        return "answered"
    except ModelError as error:
        return error.code
    except TimeoutError:
        return "left"
    finally:
        assert (name * 2).startswith("".join(heard))


async def test_nobody_hears_what_another_is_told(model_connections: ModelConnections) -> None:
    random = Random(1)
    server = await asyncio.start_server(UnrulyServer(random), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    config = llm_config_snapshot(f"http://{host}:{port}/v1")
    client = ModelRegistry(model_connections, KEYRING).acquire(config, "m", new_id())

    async def call_on(number: int) -> Counter[str]:
        # Some have left before they are answered.
        return Counter(
            [await _told(client, f"name-{number}-{call};", random.choice([0.004, 2, 2, 2])) for call in range(CALLS)]
        )

    endings = sum(await asyncio.gather(*map(call_on, range(CALLERS))), Counter[str]())

    assert endings.total() == CALLERS * CALLS
    assert {"answered", "left", "LL-0002", "LL-0006"} <= endings.keys()
    server.close()
