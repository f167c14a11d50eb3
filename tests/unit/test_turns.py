"""Places with the workers go round between keys, none is lost, and none is handed out twice."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.api.questions.turns import Turns


class Asking:
    """Questions that hold their places until they are told to end."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.tasks: list[tuple[str, asyncio.Task[None]]] = []
        self.holding: list[asyncio.Task[None]] = []

    async def ask(self, key: str) -> None:
        async def hold() -> None:
            async with self._turns.place(key):
                task = asyncio.current_task()
                assert task is not None
                self.holding.append(task)
                try:
                    await asyncio.Event().wait()
                finally:
                    self.holding.remove(task)

        self.tasks.append((key, asyncio.create_task(hold())))
        await settled()

    async def end(self, index: int) -> None:
        """Whether it holds a place or waits for one."""
        _, task = self.tasks.pop(index)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settled()

    @property
    def held_by(self) -> Counter[str]:
        return Counter(key for key, task in self.tasks if task in self.holding)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_key_that_asks_much_leaves_places_for_another() -> None:
    asking = Asking(Turns(places=4, per_key=2, tokens_per_key=100))
    for _ in range(10):
        await asking.ask("loud")
    await asking.ask("quiet")
    assert asking.held_by == {"loud": 2, "quiet": 1}


async def test_keys_that_wait_get_places_one_after_the_other() -> None:
    asking = Asking(Turns(places=2, per_key=2, tokens_per_key=100))
    for key in ("one", "one", "one", "one", "two", "three"):
        await asking.ask(key)
    await asking.end(0)
    await asking.end(0)
    assert asking.held_by == {"one": 1, "two": 1}
    await asking.end(0)
    assert asking.held_by["three"] == 1


async def test_where_no_keys_are_asked_for_one_caller_may_have_all_places() -> None:
    asking = Asking(Turns(places=4, per_key=2, tokens_per_key=100))
    for _ in range(10):
        await asking.ask("")
    assert asking.held_by == {"": 4}


async def test_a_place_given_back_early_is_not_given_back_twice() -> None:
    turns = Turns(places=1, per_key=1, tokens_per_key=100)
    async with turns.place("one") as place:
        place.give_back()
        async with turns.place("two"):
            place.give_back()
            third = asyncio.create_task(turns.place("three").__aenter__())
            await settled()
            assert not third.done()
        await third


STEPS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.booleans(), st.integers(0, 50)), max_size=60)


@given(STEPS)
def test_no_place_is_lost_or_handed_out_twice_whoever_comes_and_goes(steps: list[tuple[str, bool, int]]) -> None:
    async def run() -> None:
        asking = Asking(Turns(places=5, per_key=2, tokens_per_key=100))
        for key, comes, which in steps:
            if comes or not asking.tasks:
                await asking.ask(key)
            else:
                await asking.end(which % len(asking.tasks))
            held, wanted = asking.held_by, Counter(key for key, _ in asking.tasks)
            assert held.total() <= 5
            assert all(held[each] <= 2 for each in held if each)
            could = sum(count if not key else min(count, 2) for key, count in wanted.items())
            assert held.total() == min(5, could)  # nobody waits for a place that is free
        while asking.tasks:
            await asking.end(0)

    asyncio.run(run())


async def test_long_questions_of_one_key_wait_for_each_other_and_not_a_short_one_of_another() -> None:
    turns = Turns(places=4, per_key=4, tokens_per_key=100)
    async with turns.place("loud", 80):
        long = asyncio.create_task(turns.place("loud", 80).__aenter__())
        async with turns.place("quiet", 10):
            await settled()
            assert not long.done()
    await long
