"""One turn on ADK in a process that collects all spans and log records there are; prints them.

python -m tests.integration.engines.adk_reports
"""

import asyncio
import json

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from shared.frameworks import Framework, Mode, Provider
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import KEYRING, build, instance_snapshot, llm_config_snapshot, turn
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_bundle import FunctionBundle


def look_up(what: str) -> str:
    """Look something up."""
    return f"SECRET result for {what}"


async def main() -> None:
    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracer_provider, logger_provider = TracerProvider(), LoggerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    trace.set_tracer_provider(tracer_provider)
    set_logger_provider(logger_provider)
    async with ModelServer() as model, ModelConnections(allow_private=True) as connections:
        config = llm_config_snapshot(model.base_url, provider=Provider.LITELLM)
        snapshot = instance_snapshot(
            config, framework=Framework.GOOGLE_ADK, mode=Mode.SUPERVISOR, whoami="SECRET whoami"
        )
        bundle = FunctionBundle("com.acme.look", look_up)
        orchestrator = await build(ModelRegistry(connections, KEYRING), snapshot, [bundle])
        model.tools(("look_up", {"what": "SECRET argument"}))
        model.answer("DONE")
        model.answer("SECRET answer")
        result = await orchestrator.run(turn("SECRET question"), RecordingSink())
    told = {
        "answer": result.answer,
        "spans": "\n".join(span.to_json() for span in spans.get_finished_spans()),
        "logs": "\n".join(repr(record) for record in logs.get_finished_logs()),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
