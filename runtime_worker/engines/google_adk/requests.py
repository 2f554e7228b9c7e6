"""What a node's agent asks its model: what the run that makes the call has prepared."""

from google.adk.models.llm_request import LlmRequest
from google.genai import types

from runtime_worker.engines.google_adk.client_llm import calling, within
from runtime_worker.engines.google_adk.contents import system_text, to_contents
from runtime_worker.engines.google_adk.run import current_run


def fill_in(request: LlmRequest, model_name: str, config: types.GenerateContentConfig) -> None:
    """`config` is what all calls of an agent have in common; it is not changed."""
    prepared = current_run.get().prepared
    request.model = model_name
    request.contents = to_contents(prepared.messages)
    request.config = own = config.model_copy()
    own.system_instruction = system_text(prepared.messages)
    own.tool_config = calling(prepared.tool_choice)
    own.http_options = within(prepared.timeout_seconds)
    if prepared.response_schema is not None:
        request.set_output_schema(prepared.response_schema)
