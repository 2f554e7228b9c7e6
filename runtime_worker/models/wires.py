"""The wire formats by provider: how a request is written, where it is posted, how its stream is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime_worker.models import anthropic_body, gemini_body, openai_body
from runtime_worker.models.accumulator import Accumulator
from runtime_worker.models.anthropic_events import AnthropicAccumulator
from runtime_worker.models.anthropic_models import has_output_format
from runtime_worker.models.base import DeltaSink, ModelRequest
from runtime_worker.models.gemini_chunks import GeminiAccumulator
from runtime_worker.models.openai_chunks import OpenAIAccumulator
from shared.frameworks import Provider
from shared.model_options import ModelOptions
from shared.providers import (
    WIRES,
    Wire,
    completion_url,
    max_tokens_parameter,
    request_headers,
    structured_output,
)


@dataclass(frozen=True, slots=True)
class WireFormat:
    """One wire as spoken with one credential; `headers` hold the key. Has no state of a call.

    `answers_by_tool` says whether an answer of a given form has to be asked for as a tool.
    """

    url: str
    headers: Mapping[str, str]
    body: Callable[[ModelRequest], bytes]
    accumulator: Callable[[ModelRequest, DeltaSink | None], Accumulator]
    answers_by_tool: Callable[[ModelRequest], bool]


def wire_format(
    provider: Provider, *, base_url: str, api_key: str, model_name: str, options: ModelOptions
) -> WireFormat:
    url = completion_url(provider, base_url, model_name, options, is_stream=True)
    headers = request_headers(provider, api_key, options)
    headers |= {"Content-Type": "application/json", "Accept": "text/event-stream"}
    match WIRES[provider]:
        case Wire.OPENAI:
            limit = max_tokens_parameter(provider, base_url, options)
            is_by_tool = structured_output(provider, options) == "tool"
            return WireFormat(
                url,
                headers,
                lambda request: openai_body.encode_body(request, model_name, options, limit),
                lambda _, on_delta: OpenAIAccumulator(on_delta),
                lambda _: is_by_tool,
            )
        case Wire.ANTHROPIC:
            return WireFormat(
                url,
                headers,
                lambda request: anthropic_body.encode_body(request, model_name, options),
                lambda _, on_delta: AnthropicAccumulator(on_delta),
                lambda _: not has_output_format(model_name),
            )
        case Wire.GEMINI:
            return WireFormat(
                url,
                headers,
                lambda request: gemini_body.encode_body(request, model_name, options),
                lambda request, on_delta: GeminiAccumulator(on_delta, calls_in_parallel=request.parallel_tool_calls),
                # Gemini before 3 takes either tools or a form, not both.
                lambda request: bool(request.tools),
            )
