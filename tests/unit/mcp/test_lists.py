"""How much of a server's list of tools is taken."""

from typing import Any, cast

import pytest
from mcp.client.client import Client
from mcp.types import ListToolsResult, Tool

from shared.errors import MCPServerUnavailable
from shared.mcp.client import MAX_LIST_PAGES, listed_tools


class Pages:
    """A server's list in pages; the last one repeats for ever when it says that there are more."""

    def __init__(self, *pages: list[Tool], is_endless: bool = False) -> None:
        self.pages, self.is_endless, self.asked = pages, is_endless, 0

    async def list_tools(self, *, cursor: str | None) -> ListToolsResult:
        page = min(self.asked, len(self.pages) - 1)
        self.asked += 1
        has_more = self.is_endless or self.asked < len(self.pages)
        return ListToolsResult(tools=self.pages[page], next_cursor="more" if has_more else None)


def tool(name: str, description: str = "d", **schema: Any) -> Tool:
    return Tool(name=name, description=description, input_schema={"type": "object", **schema})


async def names(pages: Pages, allowed: tuple[str, ...] | None = None) -> list[str]:
    return [tool.name for tool in await listed_tools(cast("Client", pages), allowed)]


async def test_all_pages_are_read_and_only_allowed_tools_kept() -> None:
    assert await names(Pages([tool("a"), tool("b")], [tool("c")])) == ["a", "b", "c"]
    assert await names(Pages([tool("a"), tool("b")], [tool("c")]), ("c", "a")) == ["a", "c"]


async def test_a_list_over_the_limits_is_refused_as_a_whole() -> None:
    many = [tool(f"t{i}") for i in range(101)]
    for pages, reason in (
        (Pages(many), "more than 100 tools"),
        (Pages([tool("x" * 129)]), "a tool name has more than 128 characters"),
        (Pages([tool("a", properties={"b": {"description": "x" * 33_000}})]), "more than 32768 bytes"),
    ):
        with pytest.raises(MCPServerUnavailable, match=reason):
            await names(pages)
    assert await names(Pages(many), ("t7",)) == ["t7"], "an allow-list helps"


async def test_a_list_without_end_is_given_up() -> None:
    pages = Pages([tool("a")], is_endless=True)
    with pytest.raises(MCPServerUnavailable, match="does not end"):
        await names(pages)
    assert pages.asked == MAX_LIST_PAGES


async def test_a_long_description_is_cut() -> None:
    (described,) = await listed_tools(cast("Client", Pages([tool("a", "x" * 5000)])), None)
    assert len(described.description) == 4000
