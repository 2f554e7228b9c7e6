"""What an engine promises, held against every framework and mode that this version runs, over real HTTP.

Each scenario is data (`tests/contract/engines/`): a script for the model, and what a client is told because of it. The
same script leads to the same events, whatever framework runs it; what a framework may do otherwise stands in one table
(`engines/differences.py`). Combinations join when they become runnable.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from shared.errors import OrchestratorBuildFailed
from shared.frameworks import COMBINATIONS, Framework, Mode, Provider
from shared.ids import new_id
from tests.contract.engines import scenarios
from tests.contract.engines.bundles import CALC, WORDS, calc
from tests.contract.engines.canaries import Canary, echo, model_of, sing
from tests.contract.engines.catalogue import SCENARIOS
from tests.contract.engines.differences import DIFFERENCES, MAX_ROWS, story_of
from tests.contract.engines.meanwhile import MovedTime
from tests.contract.engines.moves import ScenarioModel
from tests.contract.engines.playing import built, judge, play
from tests.contract.engines.scenario import Scenario
from tests.contract.engines.walk import Path
from tests.contract.engines.walks import WALKS
from tests.contract.engines.walks.grounded import anchored
from tests.contract.engines.wires import spoken_over_every_wire
from tests.fakes.instances import KEYRING
from tests.fakes.plugin_bundle import FunctionBundle

assert scenarios.__all__  # Importing them is what fills the catalogue.

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEAST_SCENARIOS = 60


CANARIES = {Mode.SUPERVISOR: 40, Mode.COORDINATOR: 40, Mode.HANDOFF: 1_000, Mode.GROUNDED: 40}
"""How many runs at once must not cross: a thousand in the mode that needs the fewest calls for one."""


def runs() -> Iterator[tuple[Framework, Scenario]]:
    for framework, mode in COMBINATIONS:
        for scenario in SCENARIOS[mode].values():
            yield framework, scenario


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry() -> AsyncIterator[ModelRegistry]:
    # One way out for all scenarios, as a worker has it: they share connections, and nothing may go over from one to the
    # next on them.
    async with ModelConnections(allow_private=True) as connections:
        yield ModelRegistry(connections, KEYRING)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_model() -> AsyncIterator[ScenarioModel]:
    async with ScenarioModel() as model:
        yield model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def time() -> MovedTime:
    return MovedTime(asyncio.get_running_loop())


@pytest.fixture
def model(shared_model: ScenarioModel) -> Iterator[ScenarioModel]:
    yield shared_model
    shared_model.forget()


@pytest.mark.parametrize(
    ("framework", "scenario"),
    [pytest.param(framework, one, id=f"{framework}-{one.mode}-{one.name}") for framework, one in runs()],
)
async def test_a_script_leads_to_the_same_events_everywhere(
    framework: Framework, scenario: Scenario, model: ScenarioModel, registry: ModelRegistry, time: MovedTime
) -> None:
    played = await play(framework, scenario, model, registry, time)
    judge(played, scenario, model, story=story_of(framework, scenario))


@pytest.mark.parametrize(
    ("provider", "scenario"),
    [pytest.param(provider, one, id=f"{provider}-{one.name}") for provider, one in spoken_over_every_wire()],
)
async def test_a_script_leads_to_the_same_events_over_every_wire(
    provider: Provider, scenario: Scenario, model: ScenarioModel, registry: ModelRegistry, time: MovedTime
) -> None:
    played = await play(Framework.LANGGRAPH, scenario, model, registry, time, provider=provider)
    judge(played, scenario, model, story=story_of(Framework.LANGGRAPH, scenario))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("framework", "mode", "count"),
    [pytest.param(framework, mode, CANARIES[mode], id=f"{framework}-{mode}") for framework, mode in COMBINATIONS],
)
async def test_runs_of_two_tenants_users_at_once_on_one_instance_never_cross(
    framework: Framework, mode: Mode, count: int, model: ScenarioModel, registry: ModelRegistry
) -> None:
    walk, tenants = WALKS[mode], (new_id(), new_id())
    canaries = [Canary(number, tenants[number % 2], walk) for number in range(count)]
    scenario = walk.scenario(canaries[0].path)
    orchestrator = await built(framework, scenario, model, registry, walk.bundle(CALC, echo))
    model.serve(model_of(canaries))
    await sing(orchestrator, canaries)


@pytest.mark.parametrize(("framework", "mode"), [pytest.param(f, m, id=f"{f}-{m}") for f, m in COMBINATIONS])
async def test_the_picture_shows_every_node_that_a_run_can_visit(
    framework: Framework, mode: Mode, model: ScenarioModel, registry: ModelRegistry
) -> None:
    walk = WALKS[mode]
    for node in walk.model_nodes:
        scenario = walk.scenario(walk.up_to(node))
        picture = (await built(framework, scenario, model, registry, *scenario.plugins())).mermaid()
        visited = {event[2] for event in scenario.events if event[0] == "agent_start"}
        # A plugin agent may be drawn as the node that stands for all, or by its own name.
        missing = [
            one for one in {node, *visited} if one not in picture and (one != "agent_node" or "calc" not in picture)
        ]
        assert not missing, f"{missing} not in\n{picture}"


@pytest.mark.parametrize("framework", list(Framework))
async def test_what_a_mode_cannot_work_with_is_said_when_it_is_built(
    framework: Framework, model: ScenarioModel, registry: ModelRegistry
) -> None:
    unusable: list[tuple[Mode, str, dict[str, object], tuple[FunctionBundle, ...]]] = [
        (Mode.HANDOFF, "com.acme.gone", {"entry_agent": "com.acme.gone"}, (calc(),)),
        (Mode.GROUNDED, "exactly one plugin", {}, (calc(),)),
        (Mode.GROUNDED, "exactly one plugin", {}, ()),
        (Mode.GROUNDED, "exactly one plugin", {}, (anchored(CALC), anchored(WORDS))),
    ]
    for mode, reason, mode_config, bundles in unusable:
        scenario = WALKS[mode].scenario(Path(), mode_config=mode_config)
        with pytest.raises(OrchestratorBuildFailed, match=reason):
            await built(framework, scenario, model, registry, *bundles)


async def test_what_frameworks_do_otherwise_is_little_and_each_has_a_reason() -> None:
    assert len(DIFFERENCES) <= MAX_ROWS
    for row in DIFFERENCES:
        concerned = [one for framework, one in runs() if row.concerns(framework, one)]
        assert concerned, f"no scenario is concerned by {row}"
        assert all(row.tells(one.events) != list(one.events) for one in concerned)
        assert len(row.reason) > 20


@pytest.mark.parametrize("mode", list(Mode))
async def test_every_mode_is_told_in_enough_scenarios(mode: Mode) -> None:
    assert len(SCENARIOS[mode]) >= LEAST_SCENARIOS
