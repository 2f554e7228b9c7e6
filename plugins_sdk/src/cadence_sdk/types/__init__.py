"""Tools, messages and state as plugins see them."""

from cadence_sdk.types.sdk_messages import (
    ToolCall,
    UvAIMessage,
    UvContextMessage,
    UvHumanMessage,
    UvMessage,
    UvSystemMessage,
    UvToolMessage,
)
from cadence_sdk.types.sdk_state import UvState
from cadence_sdk.types.sdk_tools import StreamFilter, UvTool, uvtool

__all__ = [
    "StreamFilter",
    "ToolCall",
    "UvAIMessage",
    "UvContextMessage",
    "UvHumanMessage",
    "UvMessage",
    "UvState",
    "UvSystemMessage",
    "UvTool",
    "UvToolMessage",
    "uvtool",
]
