"""What an llm_config's `additional_config` may hold: an allow-list, so that a stored dictionary is never sent blindly.

`organization` and `project` become OpenAI's headers, `headers` adds `X-…` headers (gateways route by them) and the
referer that OpenRouter reads; everything else that a header could do (authorization, host, cookies) stays ours. The
sampling keys go into the request body under the wire's names. `max_tokens_parameter` and `structured_output` say what
an OpenAI-compatible endpoint understands, `api_version` is Azure's.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared.errors import FieldError, InvalidRequest

MaxTokensParameter = Literal["max_tokens", "max_completion_tokens"]
HeaderName = Annotated[str, Meta(pattern=r"^(?i:x-[a-z0-9-]{1,60}|http-referer)\Z")]
HeaderValue = Annotated[str, Meta(pattern=r"^[\x20-\x7e]{0,500}\Z")]


class ModelOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Every key is optional; absent means the provider's own default."""

    organization: HeaderValue | None = None
    project: HeaderValue | None = None
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=20)] = {}
    max_retries: Annotated[int, Meta(ge=0, le=5)] = 2
    max_tokens_parameter: MaxTokensParameter | None = None
    structured_output: Literal["json_schema", "tool"] | None = None
    api_version: Annotated[str, Meta(pattern=r"^[a-z0-9.-]{1,40}\Z")] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    reasoning_effort: Annotated[str, Meta(max_length=20)] | None = None
    service_tier: Annotated[str, Meta(max_length=40)] | None = None

    def body(self) -> dict[str, Any]:
        """The keys that go into a request body of OpenAI's wire."""
        keys = ("top_p", "frequency_penalty", "presence_penalty", "seed", "reasoning_effort", "service_tier")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}

    def http_headers(self) -> dict[str, str]:
        """The headers to add to each request."""
        headers = dict(self.headers)
        if self.organization:
            headers["OpenAI-Organization"] = self.organization
        if self.project:
            headers["OpenAI-Project"] = self.project
        return headers


def parse_model_options(raw: dict[str, Any], *, field: str = "additional_config") -> ModelOptions:
    """Raises InvalidRequest naming the key; unknown ones are refused, which is for the moment of saving."""
    try:
        return msgspec.convert(raw, ModelOptions)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        errors = (FieldError(field + path.rstrip("`"), "invalid", message),)
        raise InvalidRequest("additional_config is not valid", errors=errors) from None


def known_model_options(raw: dict[str, Any]) -> tuple[ModelOptions, tuple[str, ...]]:
    """The options that mean something, and the names of the keys that do not: for what was stored before a key was
    known or after it was dropped. Raises InvalidRequest for a known key with a value it cannot have."""
    known = {key: value for key, value in raw.items() if key in ModelOptions.__struct_fields__}
    return parse_model_options(known), tuple(sorted(raw.keys() - known.keys()))
