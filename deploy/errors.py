"""What goes wrong when running Cadence on a machine. Each is told to the operator as it is, in one sentence or two."""

from typing import ClassVar


class DeployError(Exception):
    """Base: the text is complete, names what to do about it, and needs no traceback."""

    exit_code: ClassVar[int] = 1


class ServerUnavailable(DeployError):
    """A server's program is not installed, and there may be no build of it for this platform."""


class ServerFailed(DeployError):
    """A server or a process of ours stopped, or did not become ready in time."""


class PortInUse(DeployError):
    """Somebody else listens where we want to."""


class DataDirectoryUnusable(DeployError):
    """The data directory cannot be written, or what it holds cannot be read."""


class AlreadyRunning(DeployError):
    """Another `cadence up` has this data directory."""


class NotRunning(DeployError):
    """Nothing runs from this data directory."""

    exit_code = 3
    """What `systemctl status` answers for a service that is not running."""
