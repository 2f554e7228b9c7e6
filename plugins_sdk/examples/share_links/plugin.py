"""Settings, one of them secret, and results of which the user sees a part while the model still thinks."""

import hashlib
import hmac
import time
from typing import Annotated, Any
from urllib.parse import quote

from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, UvTool, plugin_settings, uvtool
from pydantic import Field


def _for_users(result: dict[str, Any]) -> dict[str, Any]:
    """The stream filter: the model reads all of the result, the user is shown the link and no internals."""
    return {"link": result["link"], "valid_minutes": result["valid_minutes"]}


class LinkAgent(BaseAgent):
    def initialize(self, config: dict[str, Any]) -> None:
        # Required settings are there, others have their default: `initialize` only has to take them.
        self._key: str = config["signing_key"]
        self._base_url: str = config["base_url"].rstrip("/")
        self._valid_minutes: int = config["valid_minutes"]

    def get_tools(self) -> list[UvTool]:
        @uvtool(stream=True, stream_filter=_for_users)
        def share_document(
            document_id: Annotated[str, Field(description="Id of the document, such as D-17", pattern=r"^D-\d{1,9}$")],
        ) -> dict[str, Any]:
            """Share a document: make a link to it that works for a while without a login."""
            expires_at = int(time.time()) + 60 * self._valid_minutes
            signature = self._signature(document_id, expires_at)
            link = f"{self._base_url}/d/{quote(document_id)}?expires={expires_at}&signature={signature}"
            return {
                "link": link,
                "valid_minutes": self._valid_minutes,
                "document_id": document_id,
                "expires_at": expires_at,
            }

        return [share_document]

    def _signature(self, document_id: str, expires_at: int) -> str:
        text = f"{document_id}:{expires_at}".encode()
        return hmac.new(self._key.encode(), text, hashlib.sha256).hexdigest()


@plugin_settings(
    [
        {
            "key": "signing_key",
            "name": "Signing key",
            "type": "str",
            "description": "What the document server checks links with",
            "required": True,
            "sensitive": True,
        },
        {
            "key": "base_url",
            "name": "Address of the document server",
            "type": "str",
            "description": "Where links lead to",
            "default": "https://documents.example.com",
        },
        {"key": "valid_minutes", "type": "int", "description": "How long a link works", "default": 60},
    ]
)
class LinkPlugin(BasePlugin):
    @staticmethod
    def get_metadata() -> PluginMetadata:
        return PluginMetadata(
            pid="com.example.share-links",
            name="Share links",
            version="1.0.0",
            description="Makes links to documents that work for a while.",
            capabilities=["documents"],
        )

    @staticmethod
    def create_agent() -> BaseAgent:
        return LinkAgent()
