"""What may be configured of an MCP server."""

from typing import Any

import pytest

from shared.mcp.rules import ALLOWED_TOOLS, HEADERS, header_problems, setting_problem, settings_schema
from shared.snapshots import MCPServer

SECRET = "canary-0815"


def test_ordinary_headers_are_fine() -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET, "Cookie": "a=b"}
    assert list(header_problems(headers)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "elsewhere"),
        ("content-LENGTH", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Mcp-Session-Id", "somebody's"),
        ("MCP-Protocol-Version", "1"),
        ("Accept-Encoding", "gzip"),
        ("X Key", "a space in the name"),
        ("", "no name"),
        ("X-Key", f"{SECRET}\r\nHost: elsewhere"),
        ("X-Key", "ümlaut"),
        ("X-Key", "x" * 9000),
        ("X-Key", 5),
        ("X-Key", {"$sealed": SECRET}),
    ],
)
def test_a_header_that_could_change_the_request_is_refused_without_its_value(name: str, value: Any) -> None:
    (problem,) = header_problems({name: value})
    assert SECRET not in problem


def test_too_many_headers_are_refused() -> None:
    assert list(header_problems({f"X-{i}": "x" for i in range(21)})) == ["at most 20 headers are allowed"]


def test_settings_are_those_of_the_transport() -> None:
    def keys(server: MCPServer) -> list[tuple[str, bool]]:
        return [(setting["key"], setting["sensitive"]) for setting in settings_schema(server)]

    assert keys(MCPServer("streamable_http", url="https://x")) == [(ALLOWED_TOOLS, False), (HEADERS, True)]
    assert keys(MCPServer("stdio", command="x")) == [(ALLOWED_TOOLS, False)]
    assert setting_problem(ALLOWED_TOOLS, ["a", "b"]) is None
    assert setting_problem(ALLOWED_TOOLS, ["a", None]) == "must be a list of tool names"
