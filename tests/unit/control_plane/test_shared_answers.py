import asyncio
from functools import partial

from control_plane.internal.shared_answers import SharedAnswers


class Store:
    """Answers slowly with what it held when it was asked."""

    def __init__(self) -> None:
        self.value = 0
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def ask(self) -> int:
        self.asked += 1
        held = self.value
        await self.may_answer.wait()
        if held < 0:
            raise LookupError(held)
        return held


async def test_who_asks_while_a_question_is_being_asked_shares_the_next_answer_with_all_others() -> None:
    answers, store = SharedAnswers(), Store()
    first = asyncio.create_task(answers.get("it", store.ask))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.value = 1
    others = [asyncio.create_task(answers.get("it", store.ask)) for _ in range(5)]
    await asyncio.sleep(0)
    store.may_answer.set()

    assert await first == 0
    assert await asyncio.gather(*others) == [1] * 5
    assert store.asked == 2


async def test_who_can_tell_that_an_answer_is_new_enough_takes_one_that_began_earlier() -> None:
    answers, store = SharedAnswers(), Store()
    store.value = 5
    first = asyncio.create_task(answers.get("it", store.ask))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.value = 6

    async def is_at_least(wanted: int, value: int) -> bool:
        return value >= wanted

    easy = asyncio.create_task(answers.get("it", store.ask, suffices=partial(is_at_least, 5)))
    strict = asyncio.create_task(answers.get("it", store.ask, suffices=partial(is_at_least, 6)))
    await asyncio.sleep(0)
    store.may_answer.set()

    assert list(await asyncio.gather(first, easy, strict)) == [5, 5, 6]
    assert store.asked == 2


async def test_another_question_waits_for_nobody() -> None:
    answers, store, other = SharedAnswers(), Store(), Store()
    waiting = asyncio.create_task(answers.get("it", store.ask))
    other.may_answer.set()
    assert await answers.get("other", other.ask) == 0
    store.may_answer.set()
    await waiting


async def test_who_leaves_takes_the_answer_from_nobody() -> None:
    answers, store = SharedAnswers(), Store()
    leaves, stays = (asyncio.create_task(answers.get("it", store.ask)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    store.may_answer.set()
    assert await stays == 0
    assert store.asked == 1


async def test_an_error_is_for_those_who_asked_and_for_nobody_after_them() -> None:
    answers, store = SharedAnswers(), Store()
    store.may_answer.set()
    store.value = -1
    failed = await asyncio.gather(*(answers.get("it", store.ask) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in failed] == [LookupError, LookupError]
    store.value = 7
    assert await answers.get("it", store.ask) == 7
