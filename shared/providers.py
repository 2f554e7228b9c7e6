"""How each provider is spoken to: wire format, address, where the key goes. Data, so that the worker's calls and the
control plane's test call say the same."""

from enum import StrEnum
from typing import Literal
from urllib.parse import quote

from shared.frameworks import DEFAULT_BASE_URLS, Provider
from shared.model_options import MaxTokensParameter, ModelOptions

ANTHROPIC_VERSION = "2023-06-01"
AZURE_API_VERSION = "2024-10-21"
"""The last dated version of Azure's deployment addresses that is generally available; it knows structured output."""

StructuredOutput = Literal["json_schema", "tool"]
"""How an answer of a given form is asked for: with the provider's own parameter, or as a tool that has to be called."""


class Wire(StrEnum):
    """The format of requests and streams. OpenAI's chat completions are what most others imitate."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


WIRES: dict[Provider, Wire] = {
    Provider.OPENAI: Wire.OPENAI,
    Provider.ANTHROPIC: Wire.ANTHROPIC,
    Provider.CLAUDE: Wire.ANTHROPIC,
    Provider.GOOGLE: Wire.GEMINI,
    Provider.GEMINI: Wire.GEMINI,
    Provider.AZURE: Wire.OPENAI,
    Provider.GROQ: Wire.OPENAI,
    Provider.LITELLM: Wire.OPENAI,
    Provider.TENSORZERO: Wire.OPENAI,
    Provider.BIFROST: Wire.OPENAI,
}

MEANINGLESS_OPTIONS: dict[Wire, frozenset[str]] = {
    Wire.OPENAI: frozenset({"api_version"}),
    Wire.ANTHROPIC: frozenset(
        {
            "organization",
            "project",
            "max_tokens_parameter",
            "structured_output",
            "frequency_penalty",
            "presence_penalty",
            "seed",
            "api_version",
        }
    ),
    Wire.GEMINI: frozenset(
        {"organization", "project", "max_tokens_parameter", "structured_output", "service_tier", "api_version"}
    ),
}
"""Keys of `additional_config` that a wire has no place for. `api_version` is Azure's."""


def meaningless_options(provider: Provider) -> frozenset[str]:
    """The keys of `additional_config` that this provider cannot be told."""
    if provider is Provider.AZURE:
        return frozenset({"organization", "project"})
    return MEANINGLESS_OPTIONS[WIRES[provider]]


def completion_url(
    provider: Provider, base_url: str, model_name: str, options: ModelOptions, *, is_stream: bool
) -> str:
    """Where a completion is posted to. `base_url` is without a slash at its end."""
    match WIRES[provider]:
        case Wire.ANTHROPIC:
            return f"{base_url}/messages"
        case Wire.GEMINI:
            method = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
            name = model_name if "/" in model_name else f"models/{model_name}"
            return f"{base_url}/{quote(name, safe='/')}:{method}"
        case Wire.OPENAI:
            if provider is Provider.AZURE:
                return _azure_url(base_url, model_name, options)
            return f"{base_url}/chat/completions"


def request_headers(provider: Provider, api_key: str, options: ModelOptions) -> dict[str, str]:
    """All headers of a request but the content types. Ours win over those of the options, however they are spelled: one
    key travels in a request, and it is the credential's."""
    ours = _key_headers(provider, api_key)
    taken = {name.lower() for name in ours}
    return {name: value for name, value in options.http_headers().items() if name.lower() not in taken} | ours


def max_tokens_parameter(provider: Provider, base_url: str, options: ModelOptions) -> MaxTokensParameter:
    """What an OpenAI-compatible endpoint calls the output limit.

    Reasoning models of OpenAI, also on Azure and Groq, refuse or deprecate `max_tokens`; Bifrost's own name is the new
    one too. Other servers mostly know nothing but the old one.
    """
    if options.max_tokens_parameter is not None:
        return options.max_tokens_parameter
    is_openai = provider is Provider.OPENAI and base_url == DEFAULT_BASE_URLS[Provider.OPENAI]
    is_new = is_openai or provider in (Provider.AZURE, Provider.GROQ, Provider.BIFROST)
    return "max_completion_tokens" if is_new else "max_tokens"


def structured_output(provider: Provider, options: ModelOptions) -> StructuredOutput:
    """Groq's `json_schema` works with few of its models and not with streaming; tools work with all."""
    return options.structured_output or ("tool" if provider is Provider.GROQ else "json_schema")


def _key_headers(provider: Provider, api_key: str) -> dict[str, str]:
    """The headers that carry the key, and what else the wire wants in every request."""
    match WIRES[provider]:
        case Wire.ANTHROPIC:
            return {"x-api-key": api_key, "anthropic-version": ANTHROPIC_VERSION}
        case Wire.GEMINI:
            return {"x-goog-api-key": api_key}
        case Wire.OPENAI:
            if provider is Provider.AZURE:
                return {"api-key": api_key}
            return {"Authorization": f"Bearer {api_key}"}


def _azure_url(base_url: str, model_name: str, options: ModelOptions) -> str:
    """On Azure the model name is the name of the deployment. The resource's newer address ends in `/v1` and takes it
    in the body, like OpenAI's own; the dated one has it in the path."""
    if base_url.endswith("/v1"):
        version = f"?api-version={quote(options.api_version)}" if options.api_version else ""
        return f"{base_url}/chat/completions{version}"
    root = base_url if base_url.endswith("/openai") else f"{base_url}/openai"
    version = quote(options.api_version or AZURE_API_VERSION)
    return f"{root}/deployments/{quote(model_name, safe='')}/chat/completions?api-version={version}"
