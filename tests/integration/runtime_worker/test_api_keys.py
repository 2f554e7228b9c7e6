"""A worker takes API keys as the control plane does, and asks it for a key once."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared.ids import new_id
from shared.security.api_keys import APIKeyRecord, new_key, read_key
from shared.security.grants import GrantInvalidator
from shared.security.permissions import Permission
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.integration.runtime_worker.worker import Caller, RunningWorker


class Program:
    def __init__(self, worker: RunningWorker, user_id: UUID, org_id: UUID, key: str) -> None:
        self.key = key
        self.caller = Caller(worker.http, worker.url, user_id, org_id, "")
        self.caller.headers = {"X-API-KEY": key}


@pytest.fixture
def program(worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot) -> Program:
    """A program of a member's that may chat."""
    user_id = new_id()
    control_plane.admit(user_id, instance.org_id)
    return Program(worker, user_id, instance.org_id, publish(control_plane, user_id, instance.org_id))


def publish(
    control_plane: FakeControlPlane,
    user_id: UUID,
    org_id: UUID | None,
    scopes: tuple[Permission, ...] = (Permission.CHAT_USE,),
    expires_at: datetime | None = None,
) -> str:
    key = new_key(user_id)
    presented = read_key(key)
    assert presented is not None
    control_plane.api_keys[presented.digest] = APIKeyRecord(new_id(), user_id, org_id, scopes, expires_at)
    return key


async def test_a_program_chats_with_its_key(program: Program, instance: OrchestratorSnapshot) -> None:
    assert (await program.caller.chat(instance.instance_id, "hi"))[0] == 200
    program.caller.headers = {"Authorization": f"Bearer {program.key}"}
    assert (await program.caller.chat(instance.instance_id, "hi"))[0] == 200


async def test_scopes_count_in_a_worker_as_well(program: Program, instance: OrchestratorSnapshot) -> None:
    status, problem = await program.caller.call("GET", "/conversations")
    assert (status, problem["code"]) == (403, "AZ-0001")


async def test_a_key_that_is_known_needs_no_control_plane_and_one_that_was_revoked_no_longer_works(
    worker: RunningWorker, program: Program, instance: OrchestratorSnapshot, control_plane: FakeControlPlane
) -> None:
    await program.caller.chat(instance.instance_id, "hi")
    control_plane.is_away = True
    assert (await program.caller.chat(instance.instance_id, "hi"))[0] == 200

    control_plane.is_away = False
    control_plane.api_keys.clear()
    await GrantInvalidator(worker.worker.redis).user_changed(program.caller.user_id)

    status, problem = await program.caller.chat(instance.instance_id, "hi")
    assert (status, problem["code"]) == (401, "AU-0001")


async def test_a_key_of_another_organization_finds_nothing(
    worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> None:
    user_id = new_id()
    control_plane.admit(user_id, instance.org_id)
    bound_elsewhere = publish(control_plane, user_id, new_id())
    strangers = publish(control_plane, new_id(), None)

    for key in (bound_elsewhere, strangers):
        program = Program(worker, user_id, instance.org_id, key)
        assert (await program.caller.chat(instance.instance_id, "hi"))[0] == 404


async def test_keys_that_are_none_are_refused(
    worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> None:
    user_id = new_id()
    control_plane.admit(user_id, instance.org_id)
    expired = publish(control_plane, user_id, None, expires_at=datetime.now(UTC) - timedelta(seconds=1))

    for key in ("", "cdk_nonsense", new_key(user_id), expired):
        program = Program(worker, user_id, instance.org_id, key)
        assert (await program.caller.chat(instance.instance_id, "hi"))[0] == 401, key
