"""TCP ports on the loopback interface."""

import random
import socket

HOST = "127.0.0.1"
# Below the range from which systems give ports to outgoing connections, so that none of those takes a port
# between our choosing it and the server's binding it, or while a server is stopped for a moment.
_LOWEST, _HIGHEST = 20_000, 32_000
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection that lingers in TIME_WAIT does not occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port on which nothing listens."""
    chooser = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        if is_free(port := chooser.randint(_LOWEST, _HIGHEST)):
            return port
    raise OSError(f"no free port between {_LOWEST} and {_HIGHEST}")


def accepts(port: int, *, timeout_seconds: float = 0.5) -> bool:
    """Whether something accepts connections on `port`."""
    try:
        socket.create_connection((HOST, port), timeout_seconds).close()
    except OSError:
        return False
    return True
