"""What an MCP server answered a call with, as the outcome of a tool."""

from collections.abc import Iterator

from mcp.types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from runtime_worker.plugins.base import ToolOutcome
from shared.plugin_host.results import as_text, capped


def outcome_of(result: CallToolResult) -> ToolOutcome:
    """The model reads the text, or the structured content where there is none; a client sees the structured content.

    An error that the tool reports is for the model to read: the protocol says so, unlike of exceptions of code plugins.
    """
    text = "\n".join(_lines(result.content))
    structured = result.structured_content
    content = as_text(text if text or structured is None else structured)
    return ToolOutcome(content, capped(text if structured is None else structured), is_error=result.is_error)


def _lines(blocks: list[ContentBlock]) -> Iterator[str]:
    """Text as it is; of everything else only that it is there, for a model that reads text has no use for its bytes."""
    for block in blocks:
        match block:
            case TextContent():
                yield block.text
            case EmbeddedResource(resource=TextResourceContents() as resource):
                yield resource.text
            case EmbeddedResource():
                yield f"[resource {block.resource.uri}]"
            case ResourceLink():
                yield f"[resource {block.name}: {block.uri}]"
            case ImageContent() | AudioContent():
                yield f"[{block.type}, {block.mime_type}]"
