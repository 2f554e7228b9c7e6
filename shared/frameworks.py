"""Which frameworks, modes and providers exist and go together. The matrix is the one of the engine contract."""

from enum import StrEnum

from shared.errors import FieldError, UnsupportedCombination


class Framework(StrEnum):
    LANGGRAPH = "langgraph"
    OPENAI_AGENTS = "openai_agents"
    GOOGLE_ADK = "google_adk"


class Mode(StrEnum):
    SUPERVISOR = "supervisor"
    COORDINATOR = "coordinator"
    HANDOFF = "handoff"
    GROUNDED = "grounded"


class Provider(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    CLAUDE = "claude"
    GOOGLE = "google"
    GEMINI = "gemini"
    AZURE = "azure"
    GROQ = "groq"
    LITELLM = "litellm"
    TENSORZERO = "tensorzero"
    BIFROST = "bifrost"


SAME_VENDOR = {Provider.CLAUDE: Provider.ANTHROPIC, Provider.GEMINI: Provider.GOOGLE}
"""Second names: what the catalogue says of a model under the first name holds under the second as well."""

SUPPORTED_PROVIDERS: dict[Framework, tuple[Provider, ...]] = {
    Framework.LANGGRAPH: tuple(Provider),
    Framework.OPENAI_AGENTS: (Provider.OPENAI, Provider.LITELLM, Provider.BIFROST),
    Framework.GOOGLE_ADK: (
        Provider.ANTHROPIC,
        Provider.CLAUDE,
        Provider.GOOGLE,
        Provider.GEMINI,
        Provider.LITELLM,
        Provider.BIFROST,
    ),
}

DEFAULT_BASE_URLS: dict[Provider, str] = {
    Provider.OPENAI: "https://api.openai.com/v1",
    Provider.GROQ: "https://api.groq.com/openai/v1",
    Provider.ANTHROPIC: "https://api.anthropic.com/v1",
    Provider.CLAUDE: "https://api.anthropic.com/v1",
    Provider.GOOGLE: "https://generativelanguage.googleapis.com/v1beta",
    Provider.GEMINI: "https://generativelanguage.googleapis.com/v1beta",
}
"""Where a provider answers when the llm_config names no `base_url`; the others are self-hosted and must name one."""

COMBINATIONS = tuple((framework, mode) for framework in Framework for mode in Mode)
"""Every framework runs every mode."""


def require_supported(framework: Framework, provider: Provider) -> None:
    """Raise UnsupportedCombination, naming what is supported, unless the framework works with this provider."""
    supported = SUPPORTED_PROVIDERS[framework]
    if provider not in supported:
        names = ", ".join(supported)
        raise UnsupportedCombination(
            f"{framework} does not work with provider {provider}; it supports {names}",
            errors=(FieldError("config.default_llm_config_id", "provider_mismatch", f"supported providers: {names}"),),
        )
