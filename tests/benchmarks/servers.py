"""The small servers of a run: the scripted model and the relay, beside those of the stack."""

from pathlib import Path

from deploy.local.ports import HOST
from deploy.stack.planes import Plane


class BenchModel(Plane):
    ready_path = "/health"

    def __init__(self, home: Path) -> None:
        super().__init__(home, name="scripted model", module="tests.benchmarks.model", environment={})
        self._arguments = (str(self.port),)


class Relay(Plane):
    """Granian with the options that the worker is served with, and as little else as possible."""

    ready_path = "/health"

    def __init__(self, home: Path, model_url: str) -> None:
        super().__init__(home, name="relay", module="granian", environment={"BENCH_MODEL_URL": model_url})
        self._arguments = (
            *("--interface", "asgi", "--loop", "uvloop", "--no-ws", "--log-level", "warning"),
            *("--host", HOST, "--port", str(self.port), "--backpressure", "4096"),
            "tests.benchmarks.relay:app",
        )
