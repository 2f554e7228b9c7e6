"""A key service that speaks as much of the transit engine's HTTP API as we do: named AEAD keys with versions."""

import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "s.made-up-vault-token"


class FakeVault:
    """`requests` are the bodies of all requests, `keys` the versions of each key, the first being 1."""

    def __init__(self) -> None:
        self.keys: dict[str, list[bytes]] = {"cadence": [os.urandom(32)]}
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.is_sealed = False
        self.url = ""

    def rotate(self, name: str = "cadence") -> None:
        self.keys[name].append(os.urandom(32))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeVault"]:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/v1/transit/keys/{name}", self._key),
                web.post("/v1/transit/encrypt/{name}", self._encrypt),
                web.post("/v1/transit/decrypt/{name}", self._decrypt),
            ]
        )
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield self

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.is_sealed:
            return _errors(503, "Vault is sealed")
        if request.headers.get("X-Vault-Token") != TOKEN:
            return _errors(403, "permission denied")
        if request.match_info["name"] not in self.keys:
            return _errors(400, "encryption key not found")
        self.requests.append((request.path, await request.json() if request.can_read_body else {}))
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _key(self, request: web.Request) -> web.Response:
        return web.json_response({"data": {"latest_version": len(self.keys[request.match_info["name"]])}})

    async def _encrypt(self, request: web.Request) -> web.Response:
        body = await request.json()
        versions, nonce = self.keys[request.match_info["name"]], os.urandom(12)
        plain, associated = base64.b64decode(body["plaintext"]), base64.b64decode(body["associated_data"])
        sealed = nonce + AESGCM(versions[-1]).encrypt(nonce, plain, associated)
        text = f"vault:v{len(versions)}:{base64.b64encode(sealed).decode()}"
        return web.json_response({"data": {"ciphertext": text, "key_version": len(versions)}})

    async def _decrypt(self, request: web.Request) -> web.Response:
        body = await request.json()
        _, version, encoded = body["ciphertext"].split(":")
        raw, key = base64.b64decode(encoded), self.keys[request.match_info["name"]][int(version[1:]) - 1]
        try:
            plain = AESGCM(key).decrypt(raw[:12], raw[12:], base64.b64decode(body["associated_data"]))
        except InvalidTag:
            return _errors(400, "cipher: message authentication failed")
        return web.json_response({"data": {"plaintext": base64.b64encode(plain).decode()}})


def _errors(status: int, text: str) -> web.Response:
    return web.json_response({"errors": [text]}, status=status)
