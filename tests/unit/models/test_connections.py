import socket

import pytest
from aiohttp import ClientConnectorError, ClientRequest
from yarl import URL

from runtime_worker.models.connections import GuardedResolver, ModelConnections, RefusedAddress
from tests.fakes.resolver import FixedResolver


@pytest.mark.parametrize(
    "addresses", [("10.0.0.7",), ("127.0.0.1",), ("::1",), ("169.254.169.254",), ("1.1.1.1", "192.168.0.1")]
)
async def test_a_name_that_resolves_to_a_refused_address_is_not_called(addresses: tuple[str, ...]) -> None:
    resolver = GuardedResolver(FixedResolver(*addresses), allow_private=False)
    with pytest.raises(RefusedAddress):
        await resolver.resolve("models.example.com", 443)


async def test_the_metadata_address_is_refused_even_where_private_ones_are_allowed() -> None:
    resolver = GuardedResolver(FixedResolver("169.254.169.254"), allow_private=True)
    with pytest.raises(RefusedAddress):
        await resolver.resolve("models.example.com", 443)


async def test_public_addresses_pass() -> None:
    resolver = GuardedResolver(FixedResolver("1.1.1.1", "8.8.8.8"), allow_private=False)
    assert len(await resolver.resolve("models.example.com", 443)) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_an_address_in_the_url_itself_is_refused_before_anything_is_sent_there(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        async with ModelConnections(allow_private=False) as connections:
            with pytest.raises(ClientConnectorError) as refusal:
                await connections.lend(ClientRequest("POST", URL(f"http://{host}:{server.getsockname()[1]}/")))
        assert isinstance(refusal.value.os_error, RefusedAddress)
        with pytest.raises(BlockingIOError):
            server.accept()
