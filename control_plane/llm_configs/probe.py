"""One real, cheap call with a credential, to tell an admin whether it works."""

import socket
import time
from typing import Any

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
from shared.frameworks import DEFAULT_BASE_URLS, Provider
from shared.model_options import ModelOptions
from shared.providers import WIRES, Wire, completion_url, max_tokens_parameter, request_headers
from shared.security.addresses import check_model_url, is_refused_address

TIMEOUT_SECONDS = 20.0
MAX_ANSWER_BYTES = 256 * 1024
ANSWER_TOKENS = 16
"""With one, models that think first answer with an error: nothing would be left to answer with."""
_QUESTION = "ping"


class ProbeRequest(msgspec.Struct, frozen=True):
    """What the probe needs to know of a credential."""

    provider: Provider
    model_name: str
    base_url: str | None
    api_key: str
    options: ModelOptions = ModelOptions()


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
        options = request.options
        url = completion_url(request.provider, base_url, request.model_name, options, is_stream=False)
        headers = request_headers(request.provider, request.api_key, options)
        client = self._open()
        try:
            async with client.post(
                url, headers=headers, json=_body(request, base_url), allow_redirects=False
            ) as answer:
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


def _body(request: ProbeRequest, base_url: str) -> dict[str, Any]:
    """The cheapest request of the provider's wire format: one word in, a few out."""
    match WIRES[request.provider]:
        case Wire.GEMINI:
            contents = [{"role": "user", "parts": [{"text": _QUESTION}]}]
            return {"contents": contents, "generationConfig": {"maxOutputTokens": ANSWER_TOKENS}}
        case Wire.ANTHROPIC:
            limit = "max_tokens"
        case Wire.OPENAI:
            limit = max_tokens_parameter(request.provider, base_url, request.options)
    messages = [{"role": "user", "content": _QUESTION}]
    return {"model": request.model_name, "messages": messages, limit: ANSWER_TOKENS}


def _judge(status: int, content: bytes) -> None:
    """Raises the ModelError an answer means. What the provider wrote is never passed on."""
    if status in (401, 403):
        raise ModelCredentialRefused
    if status == 400 and b"API_KEY_INVALID" in content:
        # Google's answer to a wrong key.
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
