"""How long a refusal takes says nothing about whether there is something (`just isolation` prints the figures).

A test and not a mere figure: its verdict does not depend on the load of the machine, only its power does
(`tests.isolation.timing`). A second query, a decryption or a build shows; a page read in PostgreSQL's memory does not.
"""

from typing import Any

import pytest

from control_plane.wiring import Resources
from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.workshop import Workshop, add_plugin
from tests.isolation.timing import Ask, chance_of, compared

ORG = "/api/orgs/{org_id}"
ASKED: tuple[tuple[str, str, Any], ...] = (
    ("GET", ORG, None),
    ("GET", ORG + "/llm-configs/{config_id}", None),
    ("PATCH", ORG + "/llm-configs/{config_id}", {"name": "mine"}),
    ("GET", ORG + "/plugins/{plugin_id}", None),
    ("GET", ORG + "/orchestrators/{instance_id}", None),
    ("POST", ORG + "/orchestrators/{instance_id}/reload", None),
    ("PATCH", ORG + "/central-points/{central_id}", {"name": "mine"}),
)


def asking(caller: Caller, method: str, path: str, body: Any) -> Ask:
    async def ask() -> None:
        answer = await caller.call(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code == 404, answer.text

    return ask


async def test_what_another_organization_has_is_refused_in_the_time_that_nothing_takes(
    world: World, resources: Resources, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = await Workshop.open(world, resources)
    instance_id = (await shop.orchestrator())["instance_id"]
    theirs = {
        "org_id": shop.tenant.org_id,
        "config_id": shop.llm_config_id,
        "plugin_id": await add_plugin(resources, "com.theirs.secret", org_id=shop.tenant.org_id),
        "instance_id": instance_id,
        "central_id": (await shop.central_point(instance_id))["central_id"],
    }
    nobodys = {name: str(new_id()) for name in theirs}
    found = []
    for place in ("theirs", "mine"):
        for method, path, body in ASKED:
            if place == "mine" and path == ORG:
                continue
            # Each of another organization, so that nobody comes near a limit.
            mine = await world.tenant()
            own = {"org_id": mine.org_id} if place == "mine" else {}
            foreign, unknown = (
                asking(mine.admin, method, path.format_map({**ids, **own}), body) for ids in (theirs, nobodys)
            )
            found.append(await compared(f"{method:<6}{path} ({place})", foreign, unknown))

    if pytestconfig.getoption("--matrix"):
        with capsys.disabled():
            print("\ncontrol plane, foreign ids against unknown ones: median, difference", *found, sep="\n")
    assert "\n".join(str(comparison) for comparison in found if comparison.can_be_told_apart) == ""


async def test_a_longer_way_to_the_same_refusal_would_be_seen() -> None:
    async def quick() -> None:
        sum(range(10_000))

    async def slow() -> None:
        sum(range(20_000))

    # A machine with much else to do hides it in one look out of some; whoever wants to know looks again.
    looks = range(5)
    assert any([(await compared("twice the work", slow, quick)).can_be_told_apart for _ in looks])
    assert chance_of([1.0, -1.0] * 50) > 0.5
