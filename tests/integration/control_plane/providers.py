"""Model providers for the test calls of LLM configs: real HTTP, answers as told."""

from typing import Any, Self

from aiohttp import web


class Providers:
    """Answers every POST with `status` and `body`, and remembers what came."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {"choices": []}
        self.cookie = ""
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, headers, await request.json()))
        more = {"Set-Cookie": self.cookie} if self.cookie else {}
        if isinstance(self.body, str):
            return web.Response(status=self.status, text=self.body, headers=more)
        return web.json_response(self.body, status=self.status, headers=more)
