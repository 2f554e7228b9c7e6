from typing import Self

import msgspec

from shared.frameworks import DEFAULT_BASE_URLS, SUPPORTED_PROVIDERS, Framework, Mode, Provider
from shared.prompts import slots


class FrameworkView(msgspec.Struct):
    framework_type: Framework
    supported_providers: list[Provider]
    supported_modes: list[Mode]

    @classmethod
    def of(cls, framework: Framework) -> Self:
        return cls(framework, list(SUPPORTED_PROVIDERS[framework]), list(Mode))


class ProviderView(msgspec.Struct):
    """A provider without a `default_base_url` is self-hosted: its llm_configs must name a `base_url`."""

    provider: Provider
    default_base_url: str | None

    @classmethod
    def of(cls, provider: Provider) -> Self:
        return cls(provider, DEFAULT_BASE_URLS.get(provider))


class PromptView(msgspec.Struct):
    """The prompt of a node that has no `prompt_override`; a slot is written `{{slot}}`."""

    node: str
    template: str
    slots: list[str]

    @classmethod
    def of(cls, node: str, template: str) -> Self:
        return cls(node, template, sorted(slots(template)))
