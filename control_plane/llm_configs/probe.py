"""One real, cheap call with a credential, to tell an admin whether it works."""

import socket
import time
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from control_plane.llm_configs.schemas import ProbeView
from shared.errors import (
    DomainError,
    ModelAddressRefused,
    ModelCredentialRefused,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRequestRefused,
    ModelTimedOut,
    ModelUnavailable,
)
from shared.frameworks import DEFAULT_BASE_URLS, OPENAI_WIRE_PROVIDERS, Provider
from shared.security.addresses import check_model_url, is_refused_address

TIMEOUT_SECONDS = 20.0
MAX_ANSWER_BYTES = 256 * 1024
ANTHROPIC_VERSION = "2023-06-01"
_QUESTION = "ping"


class ProbeRequest(msgspec.Struct, frozen=True):
    """What the probe needs to know of a credential."""

    provider: Provider
    model_name: str
    base_url: str | None
    api_key: str


class CheckedResolver(AbstractResolver):
    """Resolves names, and fails for one that points anywhere a model may not be called."""

    def __init__(self, *, allow_private: bool) -> None:
        self._resolver = ThreadedResolver()
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if any(is_refused_address(result["host"], allow_private=self._allow_private) for result in found):
            raise OSError(f"{host} resolves to an address that is private or reserved")
        return found

    async def close(self) -> None:
        await self._resolver.close()


class CheckedSockets:
    """Fails for such an address at the moment it is connected to: one in the URL itself never meets the resolver."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    def __call__(self, address: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if is_refused_address(host, allow_private=self._allow_private):
            raise OSError("the address is private or reserved")
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        return sock


class ModelProbe:
    """Holds the one connection pool for probes; made on the first call, because most processes never make one."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._client: aiohttp.ClientSession | None = None

    async def run(self, request: ProbeRequest) -> ProbeView:
        """Never raises for what the provider does: that is the result."""
        started = time.perf_counter()
        failure: DomainError | None = None
        try:
            await self._call(request)
        except (ModelError, ModelAddressRefused) as error:
            failure = error
        latency_ms = round((time.perf_counter() - started) * 1000, 1)
        if failure is not None:
            return ProbeView(False, latency_ms, failure.code, failure.detail)
        return ProbeView(True, latency_ms, None, "the model answered")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _call(self, request: ProbeRequest) -> None:
        base_url = (request.base_url or DEFAULT_BASE_URLS[request.provider]).rstrip("/")
        check_model_url(base_url, allow_private=self._allow_private)
        path, headers, body = _wire(request)
        client = self._open()
        try:
            async with client.post(base_url + path, headers=headers, json=body, allow_redirects=False) as answer:
                content = await answer.content.read(MAX_ANSWER_BYTES)
                _judge(answer.status, content)
        except TimeoutError:
            raise ModelTimedOut(f"no answer within {TIMEOUT_SECONDS:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnavailable(f"the provider could not be reached ({type(error).__name__})") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=CheckedResolver(allow_private=self._allow_private),
                    socket_factory=CheckedSockets(allow_private=self._allow_private),
                    limit=16,
                ),
                # What a provider gives one organization must not be sent for another.
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                trust_env=False,
            )
        return self._client


def _wire(request: ProbeRequest) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Path, headers and body of the cheapest request of the provider's wire format: one word in, one token out."""
    messages = [{"role": "user", "content": _QUESTION}]
    if request.provider in OPENAI_WIRE_PROVIDERS:
        # OpenAI's own newer models refuse `max_tokens`; what imitates its wire format often knows nothing else.
        limit = "max_completion_tokens" if request.provider is Provider.OPENAI else "max_tokens"
        headers = {"Authorization": f"Bearer {request.api_key}"}
        if request.provider is Provider.AZURE:
            headers = {"api-key": request.api_key}
        return "/chat/completions", headers, {"model": request.model_name, "messages": messages, limit: 1}
    if request.provider in (Provider.ANTHROPIC, Provider.CLAUDE):
        headers = {"x-api-key": request.api_key, "anthropic-version": ANTHROPIC_VERSION}
        return "/messages", headers, {"model": request.model_name, "messages": messages, "max_tokens": 1}
    body = {"contents": [{"parts": [{"text": _QUESTION}]}], "generationConfig": {"maxOutputTokens": 1}}
    name = quote(request.model_name.removeprefix("models/"), safe="")
    return f"/models/{name}:generateContent", {"x-goog-api-key": request.api_key}, body


def _judge(status: int, content: bytes) -> None:
    """Raises the ModelError an answer means. What the provider wrote is never passed on."""
    if status in (401, 403):
        raise ModelCredentialRefused
    if status == 429:
        raise ModelRateLimited
    if 300 <= status < 500:
        raise ModelRequestRefused(f"the provider answered {status}: check model_name and base_url")
    if status >= 500:
        raise ModelUnavailable(f"the provider answered {status}")
    try:
        answer = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelProtocolError("the answer is not JSON: does base_url point to the API?") from None
    if not isinstance(answer, dict) or not ({"choices", "content", "candidates"} & answer.keys()):
        raise ModelProtocolError("the answer is not one of a model: does base_url point to the API?")
