"""A dependency from PyPI: declared in the metadata, imported at the top, locked and installed by the platform."""

from itertools import pairwise
from typing import Annotated

from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, UvTool, uvtool
from markdown_it import MarkdownIt
from pydantic import Field


@uvtool
def outline_markdown(text: Annotated[str, Field(description="A text in Markdown", max_length=100_000)]) -> str:
    """Outline a Markdown text: its headings, indented by their level."""
    tokens = MarkdownIt().parse(text)
    headings = [
        f"{'  ' * (int(opening.tag[1]) - 1)}{content.content}"
        for opening, content in pairwise(tokens)
        if opening.type == "heading_open"
    ]
    return "\n".join(headings) or "The text has no headings."


class MarkdownAgent(BaseAgent):
    def get_tools(self) -> list[UvTool]:
        return [outline_markdown]


class MarkdownPlugin(BasePlugin):
    @staticmethod
    def get_metadata() -> PluginMetadata:
        return PluginMetadata(
            pid="com.example.markdown-outline",
            name="Markdown outline",
            version="1.0.0",
            description="Shows how a Markdown text is built.",
            capabilities=["text"],
            # A range, so that the next upload may get a newer one; what runs is the exact version found at this upload.
            dependencies=["markdown-it-py>=3,<5"],
        )

    @staticmethod
    def create_agent() -> BaseAgent:
        return MarkdownAgent()
