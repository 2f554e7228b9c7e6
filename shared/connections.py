"""Ending a client's connection from our side, for which ASGI has no word."""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

STUCK_SECONDS = 60.0
"""A client that takes nothing for so long is not slow but gone, or means harm."""

_DESCRIPTORS = Path("/dev/fd")


async def abort(scope: Mapping[str, Any]) -> bool:
    """Cut the connection of an ASGI request that came over HTTP/1; whether that could be done.

    What was not sent yet is thrown away, by the server's own buffers as well. Over HTTP/2 other requests share the
    connection, so it stays.
    """
    client, server = scope.get("client"), scope.get("server")
    if not client or not server or not str(scope["http_version"]).startswith("1"):
        return False
    return await asyncio.to_thread(_abort, (str(client[0]), int(client[1])), int(server[1]))


def _abort(client: tuple[str, int], server_port: int) -> bool:
    for descriptor in _DESCRIPTORS.iterdir():
        # A copy, because the number may mean another file by the next line.
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as connection:
            if connection.getpeername()[:2] == client and connection.getsockname()[1] == server_port:
                connection.shutdown(socket.SHUT_RDWR)
                return True
    return False
