"""Plain tools, one sync and one async. Nothing else is needed for a plugin."""

import asyncio
import ipaddress
import socket
from typing import Annotated, Any

from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, UvTool, uvtool
from pydantic import Field


@uvtool
def explain_address(address: Annotated[str, Field(description="An IPv4 or IPv6 address", max_length=64)]) -> Any:
    """Explain an IP address: its version, and which networks it belongs to."""
    try:
        parsed = ipaddress.ip_address(address.strip())
    except ValueError:
        # The model reads this sentence and can ask for a better one; a raised error would only tell it that we failed.
        return f"{address!r} is no IP address."
    kinds = ("private", "global", "loopback", "link_local", "multicast")
    return {
        "address": parsed.exploded,
        "version": parsed.version,
        "kinds": [kind for kind in kinds if getattr(parsed, f"is_{kind}")],
    }


@uvtool
async def look_up_host(host: Annotated[str, Field(description="A host name", max_length=253)]) -> Any:
    """Look up the IP addresses of a host name."""
    # Awaited, so that other calls of the agent go on while the name server thinks.
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return f"There is no host {host!r}."
    return {"host": host, "addresses": sorted({str(entry[4][0]) for entry in found})}


class AddressAgent(BaseAgent):
    def get_tools(self) -> list[UvTool]:
        return [explain_address, look_up_host]


class AddressPlugin(BasePlugin):
    @staticmethod
    def get_metadata() -> PluginMetadata:
        return PluginMetadata(
            pid="com.example.addresses",
            name="Addresses",
            version="1.0.0",
            description="Explains IP addresses and looks up host names.",
            capabilities=["network"],
        )

    @staticmethod
    def create_agent() -> BaseAgent:
        return AddressAgent()
