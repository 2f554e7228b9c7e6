"""An MCP server as a worker uses it: calls, results, changes, trouble and the end, over real HTTP."""

import asyncio
from typing import Any

import pytest
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent

from runtime_worker.plugins.mcp_loading import MCPLoader
from shared.ids import new_id
from shared.mcp import http
from shared.snapshots import MCPServer
from tests.fakes.mcp_plugins import mcp_snapshot
from tests.fakes.mcp_server import FakeMCPServer
from tests.integration.mcp.bundles import SECONDS, Load, add, added, divide, is_answered, names
from tests.integration.runtime_worker.worker import eventually


async def test_a_tool_is_called_with_the_headers_of_the_plugin(load: Load, mcp_server: FakeMCPServer) -> None:
    bundle = await load(mcp_snapshot(mcp_server.url, headers={"Authorization": "Bearer key", "X-Team": "blue"}))

    outcome = await bundle.call("add", {"a": 2, "b": 3}, timeout_seconds=SECONDS)

    assert (outcome.content, outcome.shown, outcome.is_error) == ("5", {"result": 5}, False)
    assert names(bundle) == ["add", "divide"]
    assert bundle.tools[0].description == "Add two numbers."
    assert set(bundle.tools[0].parameters["properties"]) == {"a", "b"}
    sent = [(seen.get("authorization"), seen.get("x-team")) for seen in mcp_server.requests]
    assert set(sent) == {("Bearer key", "blue")}


async def test_what_goes_wrong_in_a_tool_is_told_to_the_model(load: Load) -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    def refuse() -> str:
        raise ToolError("the shop is closed")

    async with FakeMCPServer(add, hang, refuse) as server:
        bundle = await load(mcp_snapshot(server.url))

        refused = await bundle.call("refuse", {}, timeout_seconds=SECONDS)
        hung = await bundle.call("hang", {}, timeout_seconds=0.2)
        unknown = await bundle.call("nothing", {}, timeout_seconds=SECONDS)
        content, is_error = await added(bundle, a="two")

        assert "the shop is closed" in refused.content
        assert hung.content == "The tool hang did not answer within 0.2 seconds."
        assert unknown.content == "There is no tool 'nothing'."
        assert "a" in content
        assert all((refused.is_error, hung.is_error, unknown.is_error, is_error))
        assert await added(bundle) == ("5", False)


async def test_results_of_all_kinds_become_bounded_text(load: Load) -> None:
    def mixed() -> CallToolResult:
        picture = ImageContent(type="image", data="aGk=", mime_type="image/png")
        return CallToolResult(content=[TextContent(type="text", text="before"), picture])

    def long() -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="x" * 30_000)])

    def only_structured() -> CallToolResult:
        return CallToolResult(content=[], structured_content={"sum": 5})

    async with FakeMCPServer(mixed, long, only_structured) as server:
        bundle = await load(mcp_snapshot(server.url))
        assert (await bundle.call("mixed", {}, timeout_seconds=SECONDS)).content == "before\n[image, image/png]"
        shortened = await bundle.call("long", {}, timeout_seconds=SECONDS)
        assert "truncated: the result has 30000 characters" in shortened.content
        assert len(shortened.content) < 20_200
        assert len(str(shortened.shown)) < 20_200
        structured = await bundle.call("only_structured", {}, timeout_seconds=SECONDS)
        assert (structured.content, structured.shown) == ('{"sum":5}', {"sum": 5})


async def test_an_answer_without_end_fails_its_call_and_no_later_one(load: Load) -> None:
    def flood() -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="x" * (http.MAX_ANSWER_BYTES + 1))])

    async with FakeMCPServer(add, flood) as server:
        bundle = await load(mcp_snapshot(server.url))
        assert (await bundle.call("flood", {}, timeout_seconds=SECONDS)).is_error
        assert await added(bundle) == ("5", False)


@pytest.mark.parametrize("is_legacy", [False, True])
async def test_a_restarted_server_is_connected_to_again(load: Load, is_legacy: bool) -> None:
    async with FakeMCPServer(add, is_legacy=is_legacy) as server:
        bundle = await load(mcp_snapshot(server.url))
        assert await added(bundle) == ("5", False)

        await server.stop()
        content, is_error = await added(bundle)
        assert is_error
        assert "connection" in content
        await server.start()

        await eventually(lambda: is_answered(bundle))


async def test_a_forgotten_session_costs_no_call(load: Load) -> None:
    async with FakeMCPServer(add, is_legacy=True) as server:
        bundle = await load(mcp_snapshot(server.url))
        assert await added(bundle) == ("5", False)

        await server.stop()
        await server.start()

        assert await added(bundle) == ("5", False)


async def test_a_server_that_is_away_at_load_is_used_once_it_is_there(load: Load) -> None:
    server = FakeMCPServer(add, divide)
    await server.start()
    await server.stop()
    bundle = await load(mcp_snapshot(server.url))
    assert names(bundle) == ["add"], "as they were when the plugin was saved"
    content, is_error = await added(bundle)
    assert (content, is_error) == (
        "The tool add cannot be used now: no connection to the server could be made.",
        True,
    )

    async with server:
        await eventually(lambda: is_answered(bundle))
        assert names(bundle) == ["add", "divide"]


async def test_tools_follow_the_server_as_it_tells_of_changes(load: Load, mcp_server: FakeMCPServer) -> None:
    bundle = await load(mcp_snapshot(mcp_server.url))
    before = bundle.tools
    assert bundle.tools is before

    def negate(a: int) -> int:
        """Negate."""
        return -a

    async def is_offered() -> bool:
        # The subscription may come into being after the change; then it is seen in the listing that follows it.
        return names(bundle) == ["add", "divide", "negate"]

    await mcp_server.offer(negate)
    await eventually(is_offered)
    assert (await bundle.call("negate", {"a": 4}, timeout_seconds=SECONDS)).content == "-4"


async def test_a_server_that_tells_nothing_of_changes_is_used_all_the_same(
    load: Load, mcp_server: FakeMCPServer
) -> None:
    mcp_server.refused_methods.add("subscriptions/listen")
    bundle = await load(mcp_snapshot(mcp_server.url))

    def methods() -> list[str | None]:
        return [seen.get("mcp-method") for seen in mcp_server.requests]

    await eventually(lambda: "subscriptions/listen" in methods())
    assert [await added(bundle) for _ in range(2)] == [("5", False)] * 2
    assert methods().count("server/discover") == 1, "it was connected to once"


async def test_tools_follow_a_server_with_sessions_too(load: Load) -> None:
    async with FakeMCPServer(add, is_legacy=True) as server:

        async def grow(context: Context[Any, Any]) -> str:
            """One tool more."""
            server.mcp.add_tool(divide)
            await context.session.send_tool_list_changed()
            return "grown"

        server.mcp.add_tool(grow)
        bundle = await load(mcp_snapshot(server.url))
        assert names(bundle) == ["add", "grow"]
        assert (await bundle.call("grow", {}, timeout_seconds=SECONDS)).content == "grown"
        await eventually(lambda: names(bundle) == ["add", "grow", "divide"])


async def test_an_instance_has_the_tools_it_allows_and_can_call_no_other(load: Load, mcp_server: FakeMCPServer) -> None:
    narrow = MCPServer("streamable_http", url=mcp_server.url, tool_allow_list=("divide",))
    by_instance = await load(mcp_snapshot(mcp_server.url, allowed_tools=["add"]))
    by_plugin = await load(mcp_snapshot(server=narrow))
    by_both = await load(mcp_snapshot(server=narrow, allowed_tools=["add"]))

    assert (names(by_instance), names(by_plugin), names(by_both)) == (["add"], ["divide"], [])
    asked = len(mcp_server.requests)
    assert (await by_instance.call("divide", {"a": 1, "b": 1}, timeout_seconds=SECONDS)).is_error
    assert (await by_plugin.call("add", {"a": 1, "b": 1}, timeout_seconds=SECONDS)).is_error
    assert len(mcp_server.requests) == asked, "the server is not even asked"


async def test_a_closed_bundle_leaves_no_task_and_no_connection(mcp_server: FakeMCPServer) -> None:
    before = asyncio.all_tasks()
    loader = MCPLoader(allow_private=True)
    bundle = await loader.load(mcp_snapshot(mcp_server.url), org_id=new_id(), instance_id=new_id())
    await added(bundle)

    await bundle.close()

    await eventually(lambda: [t for t in asyncio.all_tasks() - before if t.get_name().startswith("mcp-")] == [])
