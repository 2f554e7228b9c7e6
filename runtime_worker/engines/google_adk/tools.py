"""What a node's agent is offered, as ADK tools. The work is the run's: a tool holds nothing of it."""

from typing import Any

from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from runtime_worker.engines.google_adk.contents import RESULT
from runtime_worker.engines.google_adk.run import current_run
from runtime_worker.models.base import ModelTool


class OfferedTool(BaseTool):
    """A tool under the name and with the JSON schema that the model is given."""

    def __init__(self, tool: ModelTool) -> None:
        super().__init__(name=tool.name, description=tool.description)
        self.declaration = types.FunctionDeclaration(
            name=tool.name, description=tool.description, parameters_json_schema=tool.parameters
        )

    def _get_declaration(self) -> types.FunctionDeclaration:
        return self.declaration

    async def run_async(self, *, args: dict[str, Any], tool_context: ToolContext) -> dict[str, str]:
        """`args` are not looked at: the run has them as the model wrote them."""
        return {RESULT: await _result_of_call(tool_context)}


async def answer_unknown(tool: BaseTool, args: dict[str, Any], tool_context: ToolContext) -> dict[str, str] | None:
    """Before a tool is called: one that does not exist is answered by the run, like every call that cannot be made."""
    return None if isinstance(tool, OfferedTool) else {RESULT: await _result_of_call(tool_context)}


async def _result_of_call(tool_context: ToolContext) -> str:
    return await current_run.get().round.result_of(tool_context.function_call_id or "")
