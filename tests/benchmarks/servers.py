"""The small servers of a run: the scripted model and the relay, beside those of the stack."""

from pathlib import Path

import msgspec

from deploy.local.ports import HOST
from deploy.stack.planes import Plane
from tests.benchmarks.measure import Plan, Target


class BenchModel(Plane):
    ready_path = "/health"

    def __init__(self, home: Path) -> None:
        super().__init__(home, name="scripted model", module="tests.benchmarks.model", environment={})
        self._arguments = (str(self.port),)

    def target(self, plan: Plan) -> Target:
        """The model without anything between; its time to the first token is subtracted from everybody's."""
        url = self.url + "/v1/chat/completions"
        bodies = _body(plan.long_model), _body(plan.short_model)
        return Target("model itself", self.pid or 0, url, bodies[0], url, bodies[1], model_calls=1, mark='"lorem')


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

    def target(self, plan: Plan) -> Target:
        url = self.url + "/"
        return Target("relay", self.pid or 0, url, _body(plan.long_model), url, _body(plan.short_model), model_calls=1)


class BareAPI(Plane):
    """Granian with the options that the control plane is served with, and the least that asks both of its stores."""

    def __init__(self, home: Path, *, redis_url: str, postgres_url: str) -> None:
        urls = {"BENCH_REDIS_URL": redis_url, "BENCH_POSTGRES_URL": postgres_url}
        super().__init__(home, name="bare API", module="granian", environment=urls)
        self._arguments = (
            *("--interface", "asgi", "--loop", "uvloop", "--no-ws", "--log-level", "warning"),
            *("--host", HOST, "--port", str(self.port), "--backpressure", "8192"),
            "tests.benchmarks.bare_api:app",
        )


def _body(model: str) -> str:
    messages = [{"role": "user", "content": "hello"}]
    return msgspec.json.encode({"model": model, "stream": True, "messages": messages}).decode()
