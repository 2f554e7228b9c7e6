"""The SDK's tracing, which by default sends every prompt to its vendor, is off for the whole process."""

from agents import set_trace_provider
from agents.tracing.provider import DefaultTraceProvider


def turn_off_tracing() -> None:
    """Install a provider that is disabled and, whatever somebody enables later, has nothing that could export.

    Left alone, the first run would create the default one, whose exporter reads a key from the environment.
    """
    provider = DefaultTraceProvider()
    provider.set_disabled(True)
    set_trace_provider(provider)
