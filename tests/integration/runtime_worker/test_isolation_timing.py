"""How long a worker takes to refuse says nothing about whether there is something (`just isolation` prints the
figures). Why this is a test: see the control plane's.
"""

import asyncio
from typing import Any

import pytest

from runtime_worker.engines.base import EventSink, RunRequest
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually, ids_of_what_is_there
from tests.isolation.timing import Ask, compared

CHAT = {"message": "hi"}
ASKED: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/orchestrators/{instance_id}/completion/stream", CHAT),
    ("GET", "/orchestrators/{instance_id}/completion/starters", None),
    ("POST", "/central-points/{central_id}/completion/chat", CHAT),
    ("GET", "/conversations/{conversation_id}/messages", None),
    ("PATCH", "/conversations/{conversation_id}", {"title": "mine"}),
    ("GET", "/runs/{run_id}", None),
    ("POST", "/runs/{run_id}/cancel", None),
)
OF_COLLEAGUES = ASKED[3:]
"""What a member has to themselves within their organization."""


def asking(caller: Caller, method: str, url: str, body: Any) -> Ask:
    async def ask() -> None:
        json = {} if body is None else {"json": body}
        async with caller.http.request(method, url, headers=caller.headers, **json) as answer:
            assert answer.status == 404, await answer.text()
            await answer.read()

    return ask


async def test_what_another_organization_has_is_refused_in_the_time_that_nothing_takes(
    worker: RunningWorker,
    member: Caller,
    instance: OrchestratorSnapshot,
    control_plane: FakeControlPlane,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = await ids_of_what_is_there(member, instance, control_plane)
    nobodys = {name: str(new_id()) for name in theirs}
    found = []
    for place in ("theirs", "mine"):
        for method, path, body in ASKED:
            caller = await worker.sign_in(new_id())
            own = {} if place == "theirs" else {"org_id": str(caller.org_id)}
            foreign, unknown = (
                asking(caller, method, worker.url + ("/api/orgs/{org_id}" + path).format_map({**ids, **own}), body)
                for ids in (theirs, nobodys)
            )
            found.append(await compared(f"{method:<6}{path} ({place})", foreign, unknown))

    if pytestconfig.getoption("--matrix"):
        with capsys.disabled():
            print("\nruntime worker, foreign ids against unknown ones: median, difference", *found, sep="\n")
    assert "\n".join(str(comparison) for comparison in found if comparison.can_be_told_apart) == ""


async def test_what_a_colleague_has_is_refused_in_the_time_that_nothing_takes(
    worker: RunningWorker,
    member: Caller,
    builder: ScriptedBuilder,
    instance: OrchestratorSnapshot,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    colleague = await worker.sign_in(member.org_id)
    _, made = await member.chat(instance.instance_id, "secret plans")
    gate = asyncio.Event()

    async def wait(request: RunRequest, sink: EventSink) -> None:
        await gate.wait()

    builder.script = wait
    going_on = asyncio.create_task(member.chat(instance.instance_id, "wait"))
    await eventually(lambda: worker.worker.table.all())
    (run,) = worker.worker.table.all()
    theirs = {"conversation_id": made["conversation_id"], "run_id": made["run_id"]}
    nobodys = {name: str(new_id()) for name in theirs}
    chat = f"/orchestrators/{instance.instance_id}/completion/chat"
    asked = [(*one, theirs) for one in OF_COLLEAGUES]
    asked += [("GET", "/runs/{run_id}", None, {**theirs, "run_id": str(run.run_id)})]
    found = []
    for method, path, body, ids in asked:
        foreign, unknown = [asking(colleague, method, colleague.url + path.format_map(i), body) for i in (ids, nobodys)]
        found.append(await compared(f"{method:<6}{path} (a colleague's)", foreign, unknown))
    foreign, unknown = [
        asking(colleague, "POST", colleague.url + chat, {**CHAT, "conversation_id": ids["conversation_id"]})
        for ids in (theirs, nobodys)
    ]
    found.append(await compared("POST  a turn of a conversation (a colleague's)", foreign, unknown))
    gate.set()
    assert (await going_on)[0] == 200

    if pytestconfig.getoption("--matrix"):
        with capsys.disabled():
            print("\nruntime worker, a colleague's ids against unknown ones: median, difference", *found, sep="\n")
    assert "\n".join(str(comparison) for comparison in found if comparison.can_be_told_apart) == ""
