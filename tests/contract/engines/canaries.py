"""Many runs at once on one instance, each with a word of its own that must be found nowhere else."""

import asyncio
import json
import re
from collections.abc import Sequence
from uuid import UUID

import msgspec

from runtime_worker.engines.base import Orchestrator
from runtime_worker.models.base import ModelMessage
from shared.ids import new_id
from tests.contract.engines.moves import decides, says
from tests.contract.engines.story import Story, side_by_side, told
from tests.contract.engines.walk import Round, Use, Walk
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import turn
from tests.fakes.model_call import ModelCall
from tests.fakes.model_steps import Part, Step

WORD = re.compile(r"canary_\d+_")
AT_ONCE = 100


async def echo(text: str) -> str:
    """Give a text back."""
    await asyncio.sleep(0)
    return text


class Canary:
    """One turn of one user: asked with the word, which its history, its tool and its answer hold too."""

    def __init__(self, number: int, org_id: UUID, walk: Walk) -> None:
        self.word = f"canary_{number}_"
        said = f"It was {self.word}"
        self.path = walk.turn(Round([Use("echo", {"text": said}, said)]), answer=says("You ", "said ", self.word))
        self.sink = RecordingSink()
        self.moves = list(self.path.script)
        self._org_id = org_id
        self._resource_id = walk.scenario_defaults().get("resource_id")

    async def run(self, orchestrator: Orchestrator) -> None:
        """Play the turn and look at everything that came out of it."""
        history = (ModelMessage("user", f"I am {self.word}"), ModelMessage("assistant", f"Hello {self.word}"))
        request = turn(f"Repeat {self.word}", history=history, seconds=300, resource_id=self._resource_id)
        request = msgspec.structs.replace(request, org_id=self._org_id, user_id=new_id())
        result = await orchestrator.run(request, self.sink)
        assert result.answer == self.sink.text == f"You said {self.word}"
        expected: Story = list(self.path.events)
        assert side_by_side(told(self.sink)) == side_by_side(expected)
        found = set(WORD.findall(repr((self.sink.events, result))))
        assert found == {self.word}
        assert (result.usage.input_tokens, result.usage.output_tokens) == (10 * self.calls, 5 * self.calls)
        assert not self.moves, "a call of this run was answered with what belongs to another"

    @property
    def calls(self) -> int:
        return len(self.path.script)


def model_of(canaries: Sequence[Canary]) -> Step:
    """Answers every call with the next move of the one canary that the request holds."""
    by_word = {canary.word: canary for canary in canaries}

    def decide(call: ModelCall) -> Sequence[Part]:
        words = set(WORD.findall(json.dumps(call.body)))
        assert len(words) == 1, f"one request holds {words}"
        moves = by_word[words.pop()].moves
        assert moves, "a run asks more often than its script says"
        return moves.pop(0).parts

    return decides(decide, times=None).step()


async def sing(orchestrator: Orchestrator, canaries: Sequence[Canary]) -> None:
    """Run them all, a hundred at any time."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(canary: Canary) -> None:
        async with at_once:
            await canary.run(orchestrator)

    async with asyncio.TaskGroup() as group:
        for canary in canaries:
            group.create_task(one(canary))
