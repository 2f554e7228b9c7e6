"""Running a scenario on a framework and holding it against what it says must come of it."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress

from runtime_worker.engines.base import Orchestrator, RunRequest
from runtime_worker.models.registry import ModelRegistry
from shared.errors import DomainError
from shared.frameworks import Framework, Provider
from tests.contract.engines.meanwhile import LOOP_TURNS, MovedTime, Stage, WatchedSink
from tests.contract.engines.moves import ScenarioModel
from tests.contract.engines.scenario import (
    MODEL,
    OTHER_API_KEY,
    OTHER_LLM_CONFIG_ID,
    OTHER_MODEL,
    WHOAMI,
    Played,
    Scenario,
)
from tests.contract.engines.story import Story, shown, side_by_side, told
from tests.fakes.instances import API_KEY, build, instance_snapshot, llm_config_snapshot, turn
from tests.fakes.model_steps import usage_of
from tests.fakes.plugin_bundle import FunctionBundle

PROVIDER = Provider.LITELLM
"""The one that every framework supports; it speaks OpenAI's wire."""
STEP_USAGE = usage_of(10, 5)
PATIENCE_SECONDS = 10.0


async def built(
    framework: Framework,
    scenario: Scenario,
    model: ScenarioModel,
    registry: ModelRegistry,
    *bundles: FunctionBundle,
    provider: Provider = PROVIDER,
) -> Orchestrator:
    options = {"max_retries": 0, **scenario.llm}
    llm_config = llm_config_snapshot(model.base_url, model_name=MODEL, provider=provider, **options)
    other = llm_config_snapshot(
        model.base_url,
        api_key=OTHER_API_KEY,
        model_name=OTHER_MODEL,
        provider=provider,
        config_id=OTHER_LLM_CONFIG_ID,
        **options,
    )
    snapshot = instance_snapshot(
        llm_config,
        other,
        framework=framework,
        mode=scenario.mode,
        whoami=WHOAMI,
        mode_config=dict(scenario.mode_config),
        **scenario.config,
    )
    return await build(registry, snapshot, bundles)


def request_of(scenario: Scenario) -> RunRequest:
    return turn(
        scenario.asks,
        history=scenario.history,
        seconds=scenario.run_seconds,
        resource_id=scenario.resource_id,
        anchor=scenario.anchor,
        last_agent=scenario.last_agent,
    )


async def play(
    framework: Framework,
    scenario: Scenario,
    model: ScenarioModel,
    registry: ModelRegistry,
    time: MovedTime,
    *,
    provider: Provider = PROVIDER,
) -> Played:
    """One run of the scenario. What it leaves behind is checked here: every task has ended."""
    bundles = scenario.plugins()
    orchestrator = await built(framework, scenario, model, registry, *bundles, provider=provider)
    model.play(scenario.script)
    sink = WatchedSink()
    before = asyncio.all_tasks()
    running = asyncio.create_task(orchestrator.run(request_of(scenario), sink))
    try:
        if scenario.meanwhile is not None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await scenario.meanwhile(Stage(running, model, sink, bundles, time))
    except TimeoutError:
        running.cancel()
        raise AssertionError(f"the run never came that far:\n{shown(told(sink))}") from None
    result = error = None
    try:
        async with asyncio.timeout(scenario.run_seconds + PATIENCE_SECONDS):
            result = await running
    except DomainError as raised:
        error = raised
    except asyncio.CancelledError:
        if not scenario.is_cancelled:
            raise
        await _nothing_goes_on(model, sink)
    await _until_quiet(before)
    return Played(result, error, sink, list(model.calls), bundles, scenario.answer_at, scenario.rounds_at)


async def _nothing_goes_on(model: ScenarioModel, sink: WatchedSink) -> None:
    """A cancelled run has hung up on its model by the time it has ended, and says and asks nothing more."""
    events, calls = len(sink.events), len(model.calls)
    for _ in range(LOOP_TURNS):
        await asyncio.sleep(0)
    assert (len(sink.events), len(model.calls)) == (events, calls), "something happened after the cancel"
    open_calls = [call for call in model.calls if not call.answered.is_set()]
    assert not open_calls, "the model goes on writing for a run that was cancelled"


async def _until_quiet(before: "set[asyncio.Task[object]]") -> None:
    """A run's own tasks have ended when it has, or do so on the next turns of the loop."""

    def left() -> "list[asyncio.Task[object]]":
        # The server's own tasks, one per connection, live as long as connections are kept.
        return [t for t in asyncio.all_tasks() - before if "ModelServer" not in repr(t) and "Scripted" not in repr(t)]

    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while left():
                await asyncio.sleep(0.001)
    assert not left(), f"tasks outlive their run: {left()}"


def judge(played: Played, scenario: Scenario, model: ScenarioModel, *, story: Story) -> None:
    """Everything the scenario says, and what holds for every run. `story` is the scenario's, or what the framework may
    tell instead."""
    expected, recorded = story, told(played.sink)
    if not scenario.keeps_tool_order:
        expected, recorded = side_by_side(expected), side_by_side(recorded)
    assert recorded == expected, f"told:\n{shown(recorded)}\n\nexpected:\n{shown(expected)}\n\n{_reasons(played)}"
    played.sink.assert_paired()
    model.assert_done()
    _judge_outcome(played, scenario)
    for call in played.calls:
        key = OTHER_API_KEY if call.model == OTHER_MODEL else API_KEY
        assert call.api_key == key
    if scenario.check is not None:
        scenario.check(played)


def _judge_outcome(played: Played, scenario: Scenario) -> None:
    text = played.sink.text
    if scenario.is_cancelled:
        assert (played.result, played.error) == (None, None), "the run did not end as cancelled"
        return
    if scenario.raises is not None:
        assert played.error is not None, f"ended with {played.result} instead of {scenario.raises}"
        assert played.error.code == scenario.raises
        return
    assert played.error is None, f"failed with {played.error!r}"
    result = played.result
    assert result is not None
    assert result.answer == text
    assert result.error_code == scenario.error_code
    assert result.current_agent == scenario.ended_by
    assert result.agent_hops == scenario.hops
    if not scenario.counts_usage:
        return
    counted = sum(1 for move in scenario.script for _ in range(move.options.get("times", 1)) if move.is_answered)
    expected = counted * STEP_USAGE["prompt_tokens"], counted * STEP_USAGE["completion_tokens"]
    # A call that broke off is there as well, as an estimate.
    said = [call.usage for call in result.calls if not call.usage.is_estimated]
    assert (sum(usage.input_tokens for usage in said), sum(usage.output_tokens for usage in said)) == expected


def _reasons(played: Played) -> str:
    """What else helps to see why a run went another way: its end, and what the models were asked."""
    asked: list[Mapping[str, object]] = [
        {
            "tools": call.tool_names,
            "choice": call.asked.get("tool_choice"),
            "last": json.dumps(call.messages[-1:])[:300],
        }
        for call in played.calls
    ]
    lines = [f"call {number}: {one}" for number, one in enumerate(asked, start=1)]
    return "\n".join([f"result: {played.result!r}"[:600], f"error: {played.error!r}", *lines])
