"""Guests at public central points are let in, and held apart."""

from datetime import timedelta
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from shared.ids import new_id
from shared.security import conversation_tokens
from shared.security.grants import GrantInvalidator
from shared.security.organizations import OrganizationState
from shared.snapshots import CentralPointChange, OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.central_points import Guest, known, through
from tests.integration.runtime_worker.central_points import point as point
from tests.integration.runtime_worker.central_points import public as public
from tests.integration.runtime_worker.test_central_points import HI
from tests.integration.runtime_worker.worker import Caller, RunningWorker


async def test_a_guest_talks_to_a_public_point_and_goes_on_by_token_alone(
    worker: RunningWorker, public: CentralPointChange, builder: ScriptedBuilder
) -> None:
    guest = Guest(worker, public)
    status, first, headers = await guest.chat("one")
    assert (status, first["response"]) == (200, "You said: one")
    assert headers["X-Conversation-Token"] == first["conversation_token"]
    status, second, _ = await guest.chat("two", conversation_token=first["conversation_token"])
    assert (status, second["conversation_id"]) == (200, first["conversation_id"])
    assert [m.content for m in builder.requests[1].history] == ["one", "You said: one"]

    # The id alone, an unknown id, and the id with the token of another conversation look alike.
    _, another, _ = await Guest(worker, public).chat("mine")
    token = {"conversation_token": another["conversation_token"]}
    problems = []
    for body in (
        {"conversation_id": first["conversation_id"]},
        {"conversation_id": str(new_id())},
        {"conversation_id": first["conversation_id"], **token},
    ):
        status, problem, _ = await guest.chat("three", **body)
        assert status == 404
        problems.append({**problem, "request_id": ""})
    assert problems[0] == problems[1] == problems[2]


async def test_a_token_counts_at_its_point_and_for_its_time(
    worker: RunningWorker, public: CentralPointChange, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> None:
    _, first, _ = await Guest(worker, public).chat()
    token = first["conversation_token"]
    elsewhere = await known(worker, control_plane.point(instance, visibility="public"))
    head, _, _ = token.rpartition(".")
    clock = worker.worker.conversation_tokens._clock

    class Later:
        def now(self) -> Any:
            return clock.now() + conversation_tokens.LIFETIME + timedelta(seconds=1)

    for at, presented in ((elsewhere, token), (public, head + ".AAAA"), (public, "nonsense")):
        status, problem, _ = await Guest(worker, at).chat(conversation_token=presented)
        assert (status, problem["code"]) == (401, "AU-0005")
    worker.worker.conversation_tokens._clock = Later()  # type: ignore[assignment]
    status, problem, _ = await Guest(worker, public).chat(conversation_token=token)
    assert (status, problem["code"]) == (401, "AU-0005")


async def test_a_guest_sees_nothing_else_of_the_organization(
    worker: RunningWorker, public: CentralPointChange, member: Caller
) -> None:
    guest = Guest(worker, public)
    _, first, _ = await guest.chat("secret plans")
    token = {
        "Authorization": f"Bearer {first['conversation_token']}",
        "X-Conversation-Token": first["conversation_token"],
    }
    org = f"{worker.url}/api/orgs/{public.org_id}"
    strangers: list[dict[str, str]] = [{}, token]
    for headers in strangers:
        for path in (
            "/conversations",
            f"/conversations/{first['conversation_id']}",
            f"/conversations/{first['conversation_id']}/messages",
            f"/runs/{first['run_id']}",
            f"/runs/{first['run_id']}/stream",
            f"/orchestrators/{public.instance_id}/v1/models",
        ):
            async with worker.http.get(org + path, headers=headers) as answer:
                assert answer.status == 401, path
    # Nor does a member see theirs.
    assert (await member.call("GET", f"/conversations/{first['conversation_id']}"))[0] == 404
    assert (await through(member, public, conversation_id=first["conversation_id"]))[0] == 404


async def test_a_private_point_looks_to_a_guest_like_none(
    worker: RunningWorker, point: CentralPointChange, public: CentralPointChange, control_plane: FakeControlPlane
) -> None:
    await known(worker, point)
    answers = []
    unknown = CentralPointChange(new_id(), point.org_id, 1, "", point.instance_id, "public", 1, 1)
    foreign = CentralPointChange(public.central_id, new_id(), 1, "", point.instance_id, "public", 1, 1)
    for at in (point, unknown, foreign):
        status, problem, headers = await Guest(worker, at).chat()
        problem["instance"] = problem["request_id"] = ""
        kept = {name for name in headers if name.lower() != "date"}
        answers.append((status, problem, kept))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 401
    gone = control_plane.points[public.central_id]
    control_plane.points[public.central_id] = CentralPointChange(
        gone.central_id, gone.org_id, control_plane.revision + 1, "", gone.instance_id, "public", 1, 1, is_deleted=True
    )
    control_plane.revision += 1
    await worker.worker.reconciler.look()
    assert (await Guest(worker, public).chat())[0] == 401


async def test_somebody_of_another_organization_is_a_guest_like_any_other(
    worker: RunningWorker, public: CentralPointChange, point: CentralPointChange
) -> None:
    stranger = await worker.sign_in(new_id())
    path = f"{worker.url}/api/orgs/{public.org_id}/central-points"
    async with worker.http.post(
        f"{path}/{public.central_id}/completion/chat", headers=stranger.headers, json={"message": "hi"}
    ) as answer:
        assert (answer.status, bool((await answer.json())["conversation_token"])) == (200, True)
    async with worker.http.post(
        f"{path}/{point.central_id}/completion/chat", headers=stranger.headers, json={"message": "hi"}
    ) as answer:
        assert answer.status == 404
    bad = {"Authorization": "Bearer nonsense"}
    async with worker.http.post(
        f"{path}/{public.central_id}/completion/chat", headers=bad, json={"message": "hi"}
    ) as answer:
        assert answer.status == 401


async def test_guests_have_limits_of_their_own_each_and_together(
    worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, member: Caller
) -> None:
    limits: dict[str, Any] = {"visibility": "public", "requests_per_minute": 4, "requests_per_minute_per_address": 2}
    point = await known(worker, control_plane.point(instance, **limits))
    one = Guest(worker, point, "6.6.6.6, 198.51.100.7")
    assert [(await one.chat())[0] for _ in range(3)] == [200, 200, 429]
    # What a caller writes in front of what the gateway saw makes nobody else of them.
    status, problem, headers = await Guest(worker, point, "7.7.7.7, 198.51.100.7").chat()
    assert (status, problem["code"], headers["RateLimit-Limit"]) == (429, "RL-0001", "2")
    assert int(headers["Retry-After"]) >= 1
    two = [Guest(worker, point, f"2001:db8::{n}") for n in (1, 2)]
    assert [(await guest.chat())[0] for guest in (*two, two[0])] == [200, 200, 429]
    status, _, headers = await Guest(worker, point, "198.51.100.9").chat()
    assert (status, headers["RateLimit-Limit"]) == (429, "4")
    # Whoever belongs here is no guest.
    assert (await through(member, point))[0] == 200


async def test_a_suspended_organizations_point_stops_at_once(
    worker: RunningWorker, public: CentralPointChange, control_plane: FakeControlPlane
) -> None:
    guest = Guest(worker, public)
    assert (await guest.chat())[0] == 200
    control_plane.organizations[public.org_id] = OrganizationState("suspended")
    await GrantInvalidator(worker.worker.redis).organization_changed(public.org_id)
    status, problem, _ = await guest.chat()
    assert (status, problem["code"]) == (403, "AZ-0002")
    control_plane.organizations[public.org_id] = OrganizationState(None)
    await GrantInvalidator(worker.worker.redis).organization_changed(public.org_id)
    assert (await guest.chat())[0] == 401


async def test_an_openai_client_without_a_key_is_a_guest(
    worker: RunningWorker, public: CentralPointChange, builder: ScriptedBuilder
) -> None:
    guest = Guest(worker, public)
    async with AsyncOpenAI(base_url=guest.url + "/v1", api_key="public", max_retries=0) as client:
        first = await client.chat.completions.create(model="any", messages=HI)
        names = first.to_dict()["metadata"]
        assert isinstance(names, dict)
        token = str(names["conversation_token"])
        stream = await client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "two"}],
            metadata={"conversation_token": token},
            stream=True,
        )
        assert stream.response.headers["x-conversation-id"] == names["conversation_id"]
        assert stream.response.headers["x-conversation-token"]
        assert [chunk async for chunk in stream]
        assert [m.content for m in builder.requests[1].history] == ["hi", "You said: hi"]
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="any", messages=HI, metadata={"conversation_token": "made up"})
        assert refused.value.code == "AU-0005"
        private = client.with_options(base_url=guest.url.replace(str(public.central_id), str(new_id())) + "/v1")
        with pytest.raises(openai.AuthenticationError):
            await private.models.list()
