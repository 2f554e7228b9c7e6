"""Who may do what with an orchestrator, and for whom it does not exist."""

from typing import Any

import pytest

from control_plane.wiring import Resources
from shared.events import OrchestratorUnload
from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_orchestrators import events_of
from tests.integration.control_plane.workshop import CALCULATOR, Workshop, add_plugin


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def test_a_member_may_look_but_not_touch(shop: Workshop) -> None:
    made = await shop.orchestrator()
    assert (await shop.member.get(shop.at(made))).status_code == 200
    assert (await shop.member.get(shop.at(made, "/status"))).status_code == 200
    for method, path, body in routes(shop, made["instance_id"]):
        if method != "GET":
            answer = await shop.member.call(method, path, json=body)
            assert answer.status_code == 403, (method, path)


def routes(shop: Workshop, instance_id: str) -> list[tuple[str, str, Any]]:
    """Every route about one instance."""
    at = f"{shop.path}/{instance_id}"
    return [
        ("GET", at, None),
        ("PATCH", at, {"name": "mine now"}),
        ("PATCH", f"{at}/config", {"config": {"default_llm_config_id": shop.llm_config_id}}),
        ("PATCH", f"{at}/status", {"status": "suspended"}),
        ("PATCH", f"{at}/plugin-settings", {"plugin_settings": {}}),
        ("POST", f"{at}/plugins/activate", {"plugin_id": CALCULATOR}),
        ("PUT", f"{at}/plugins/sync", None),
        ("POST", f"{at}/load", {}),
        ("POST", f"{at}/unload", None),
        ("POST", f"{at}/reload", None),
        ("GET", f"{at}/status", None),
        ("GET", f"{at}/graph", None),
        ("GET", f"{at}/effective-config", None),
        ("DELETE", at, None),
    ]


async def test_another_organization_cannot_tell_an_instance_from_nothing(
    world: World, resources: Resources, shop: Workshop
) -> None:
    theirs = shop
    mine = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    made = await theirs.orchestrator()
    unknown = str(new_id())

    async def answers(caller: Caller, where: Workshop, instance_id: str) -> list[tuple[int, dict[str, Any]]]:
        found = []
        for method, path, body in routes(where, instance_id):
            answer = await caller.call(method, path, json=body)
            problem = answer.json()
            problem.pop("request_id")
            problem["instance"] = problem["instance"].replace(instance_id, "ID")
            found.append((answer.status_code, problem))
        return found

    for where in (mine, theirs):
        foreign = await answers(mine.admin, where, made["instance_id"])
        assert foreign == await answers(mine.admin, where, unknown)
        assert {status for status, _ in foreign} == {404}
    assert (await mine.admin.get(mine.path)).json()["items"] == []
    borrowed = mine.body(config={"default_llm_config_id": theirs.llm_config_id})
    assert (await mine.admin.post(mine.path, borrowed)).status_code == 422
    own_plugin = await add_plugin(resources, "org.theirs.tool", org_id=theirs.tenant.org_id)
    for ref in (own_plugin, "org.theirs.tool"):
        assert (await mine.admin.post(mine.path, mine.body(active_plugin_ids=[ref]))).status_code == 422
    assert (await theirs.admin.get(theirs.at(made))).json() == made


async def test_deleting_deactivates_and_only_a_sys_admin_makes_it_vanish(
    shop: Workshop, root: Caller, resources: Resources
) -> None:
    made = await shop.orchestrator()
    assert (await root.delete(shop.at(made, "/purge"))).status_code == 409, "nothing is purged that still exists"

    assert (await shop.admin.delete(shop.at(made))).status_code == 204
    assert isinstance((await events_of(resources, made["instance_id"]))[-1], OrchestratorUnload)
    for method, path, body in routes(shop, made["instance_id"]):
        answer = await shop.admin.call(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (410, "OR-0003"), (method, path)
    (listed,) = (await shop.admin.get(shop.path)).json()["items"]
    assert listed["status"] == "inactive"

    assert (await shop.admin.delete(shop.at(made, "/purge"))).status_code == 403
    assert (await root.delete(shop.at(made))).status_code == 204
    assert (await shop.admin.get(shop.at(made))).status_code == 404
    assert (await root.delete(shop.at(made))).status_code == 404
    assert (await shop.admin.get(shop.path)).json()["items"] == []
    assert (await root.delete(shop.at(made, "/purge"))).status_code == 204
    assert (await root.delete(shop.at(made, "/purge"))).status_code == 404
    assert (await shop.admin.delete(f"{shop.tenant.path}/llm-configs/{shop.llm_config_id}")).status_code == 204
