"""PL: plugins, their packages and tools."""

from shared.errors.base import DomainError, Kind
from shared.errors.requests import InvalidRequest


class PluginNotFound(DomainError):
    kind, code, title = Kind.NOT_FOUND, "PL-0001", "No such plugin"


class PluginVersionExists(DomainError):
    kind, code, title = Kind.CONFLICT, "PL-0002", "This version of the plugin exists already"


class PluginRefused(InvalidRequest):
    """An upload that breaks the package contract; `errors` lists every reason, in an author's words."""

    kind, code, title = Kind.INVALID, "PL-0003", "The plugin package was refused"


class PluginSettingsInvalid(InvalidRequest):
    kind, code, title = Kind.INVALID, "PL-0004", "Plugin settings are not valid"


class PluginLoadFailed(DomainError):
    """A worker could not fetch, verify or import a package."""

    kind, code, title, retryable = Kind.NOT_READY, "PL-0005", "The plugin could not be loaded", True


class ToolFailed(DomainError):
    """A tool raised, timed out or was called badly; the model is told, the run goes on."""

    kind, code, title = Kind.UPSTREAM, "PL-0006", "The tool failed"


class DependenciesUnavailable(PluginLoadFailed):
    """What a plugin depends on cannot be had: no such version, no wheel for this platform, other bytes than locked."""

    kind, code, title, retryable = Kind.NOT_READY, "PL-0007", "The plugin's dependencies cannot be installed", True


class PackageIndexUnavailable(DependenciesUnavailable):
    kind, code, title, retryable = Kind.NOT_READY, "PL-0008", "The package index does not answer", True


class MCPServerUnavailable(DomainError):
    """An MCP server cannot be reached, or what it answers cannot be used. The detail repeats nothing that it sent."""

    kind, code, title, retryable = Kind.UPSTREAM, "PL-0009", "The MCP server cannot be used", True
