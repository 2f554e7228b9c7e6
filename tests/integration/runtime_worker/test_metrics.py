"""What a worker tells Prometheus, and what it keeps to itself."""

import asyncio
import re

from prometheus_client.parser import text_string_to_metric_families

from runtime_worker.engines.base import EventSink, RunRequest
from shared.errors import RunFailed
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually


async def scraped(worker: RunningWorker) -> tuple[str, dict[tuple[str, ...], float]]:
    """The text, and its values by name and labels in the order of their names."""
    async with worker.http.get(worker.url + "/metrics") as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        text = await response.text()
    families = text_string_to_metric_families(text)
    return text, {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


async def test_runs_tokens_tools_and_what_there_is_to_do_are_told_and_nobodys_name_is(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()

    async def script(request: RunRequest, sink: EventSink) -> None:
        if request.message == "fail":
            raise RunFailed
        sink.tool_start("lookup", "1", {})
        sink.tool_end("lookup", "1", duration_ms=1, error="no")
        sink.tool_start("lookup", "2", {})
        sink.tool_end("lookup", "2", duration_ms=1, result="yes")
        if request.message == "wait":
            await go_on.wait()
        await say(sink, "done")

    builder.script = script
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    assert (await member.chat(instance.instance_id, "fail"))[0] == 500
    await member.http.get(worker.url + "/made/up/by/somebody")
    waiting = asyncio.create_task(member.stream(instance.instance_id, "wait"))
    await eventually(lambda: len(worker.worker.table) == 1)
    _, busy = await scraped(worker)
    go_on.set()
    await waiting
    await eventually(lambda: len(worker.worker.table) == 0)
    text, values = await scraped(worker)

    assert (busy[("cadence_active_runs",)], values[("cadence_active_runs",)]) == (1, 0)
    assert values[("cadence_run_capacity",)] == worker.worker.table.capacity
    assert values[("cadence_runs_total", "", "completed")] == 2
    assert values[("cadence_runs_total", "OR-0006", "failed")] == 1
    assert (values[("cadence_tokens_total", "input")], values[("cadence_tokens_total", "output")]) == (20, 10)
    assert values[("cadence_tool_calls_total", "succeeded")] == values[("cadence_tool_calls_total", "failed")] == 2
    assert (values[("cadence_instances", "hot")], values[("cadence_build_queue",)]) == (1, 0)
    assert (values[("cadence_hot_capacity",)], values[("cadence_serving",)]) == (200, 1)
    route = "/api/orgs/{org_id}/orchestrators/{instance_id}/completion/chat"
    assert values[("cadence_http_requests_total", "POST", route, "200")] == 1
    assert values[("cadence_http_requests_total", "POST", route, "500")] == 1
    assert values[("cadence_http_requests_total", "GET", "unknown", "404")] == 1
    assert values[("cadence_http_response_seconds_count", "POST", route)] == 2
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-|made/up|lookup", text)
