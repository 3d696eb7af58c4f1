from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_embedding.adapters.minilm.lanes import Express, Turns
from anabranch_embedding.adapters.minilm.plan import plan
from anabranch_faults import Overloaded
from anabranch_testkit import poll_until


class Gate:
    """Work that goes on only when it is let."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.rounds: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.rounds.append(list(items))
        assert self.open.wait(10)
        return [item * 10 for item in items]


@given(st.lists(st.integers(3, 256), max_size=200), st.sampled_from([64, 256, 1024]))
def test_a_plan_holds_every_text_once_and_pads_little(lengths: list[int], budget: int) -> None:
    groups = plan(lengths, budget=budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= budget
        assert all(longest - lengths[index] <= max(2, longest // 8) for index in group)


async def test_a_lone_query_begins_at_once_and_those_that_come_meanwhile_share_a_round() -> None:
    gate = Gate()
    express = Express(gate, limit=100, most=4)
    first = asyncio.create_task(express.run([1]))
    await poll_until(lambda: gate.rounds == [[1]])
    others = [asyncio.create_task(express.run([n])) for n in range(2, 8)]
    await asyncio.sleep(0)
    gate.open.set()
    assert await first == [10]
    assert [await task for task in others] == [[n * 10] for n in range(2, 8)]
    assert gate.rounds == [[1], [2, 3, 4, 5], [6, 7]]
    express.close()


async def test_a_call_larger_than_a_round_has_a_round_of_its_own() -> None:
    gate = Gate()
    gate.open.set()
    express = Express(gate, limit=100, most=2)
    assert await express.run([1, 2, 3]) == [10, 20, 30]
    express.close()


async def test_long_queries_fill_a_round_sooner() -> None:
    gate = Gate()
    express = Express(gate, limit=100, most=10, weigh=lambda item: item)
    first = asyncio.create_task(express.run([1]))
    await poll_until(lambda: gate.rounds == [[1]])
    others = [asyncio.create_task(express.run([n])) for n in (4, 6, 20, 1, 2)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *others)
    assert gate.rounds == [[1], [4, 6], [20], [1, 2]]
    express.close()


async def test_a_query_that_nobody_waits_for_any_more_is_not_embedded() -> None:
    gate = Gate()
    express = Express(gate, limit=100, most=1)
    first = asyncio.create_task(express.run([1]))
    await poll_until(lambda: gate.rounds == [[1]])
    given_up, last = asyncio.create_task(express.run([2])), asyncio.create_task(express.run([3]))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, last)
    assert gate.rounds == [[1], [3]]
    express.close()


async def test_queries_past_the_limit_are_told_to_come_again() -> None:
    gate = Gate()
    express = Express(gate, limit=2, most=1)
    tasks = [asyncio.create_task(express.run([1]))]
    await poll_until(lambda: gate.rounds == [[1]])
    tasks += [asyncio.create_task(express.run([n])) for n in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 queries are waiting") as raised:
        await express.run([4])
    assert raised.value.retry_after is not None
    gate.open.set()
    await asyncio.gather(*tasks)
    assert await express.run([5]) == [50]
    express.close()


async def test_an_error_reaches_all_of_its_round_and_nobody_else() -> None:
    def fails(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise RuntimeError("broken")
        return list(items)

    express = Express(fails, limit=100, most=4)
    with pytest.raises(RuntimeError, match="broken"):
        await express.run([1])
    assert await express.run([2]) == [2]
    express.close()


async def test_results_of_a_job_come_in_the_order_of_its_pieces() -> None:
    turns = Turns(threads=3, limit=10)
    assert await turns.run([partial(int, n) for n in range(50)]) == list(range(50))
    assert await turns.run([]) == []
    turns.close()


async def test_a_small_job_does_not_wait_for_a_large_one_to_end() -> None:
    turns = Turns(threads=1, limit=10)
    done: list[str] = []
    started = threading.Event()

    def piece(name: str) -> None:
        started.set()
        done.append(name)
        threading.Event().wait(0.001)

    large = asyncio.create_task(turns.run([partial(piece, "large")] * 200))
    await asyncio.to_thread(started.wait)
    await turns.run([partial(piece, "small")])
    assert done.count("large") < 200
    await large
    turns.close()


async def test_a_job_that_is_given_up_stops_after_its_present_piece() -> None:
    turns = Turns(threads=1, limit=10)
    gate = Gate()
    job = asyncio.create_task(turns.run([partial(gate, [n]) for n in range(5)]))
    await poll_until(lambda: gate.rounds == [[0]])
    job.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    assert await turns.run([partial(int, 1)]) == [1]
    assert len(gate.rounds) <= 2
    turns.close()


async def test_an_error_in_a_piece_ends_its_job_only() -> None:
    turns = Turns(threads=2, limit=10)
    with pytest.raises(ZeroDivisionError):
        await turns.run([partial(divmod, 1, 0)] * 3)
    assert await turns.run([partial(int, 1)]) == [1]
    turns.close()


async def test_work_past_the_limit_is_refused_but_what_is_alone_is_admitted_however_large() -> None:
    turns = Turns(threads=1, limit=10)
    with (
        turns.admission(50),
        pytest.raises(Overloaded, match="50 texts are waiting to be embedded; the limit is 10"),
        turns.admission(1),
    ):
        pass
    with turns.admission(6), turns.admission(4):
        assert turns.admitted == 10
    assert turns.admitted == 0


async def test_lanes_that_are_closed_take_no_more_work() -> None:
    turns, express = Turns(threads=1, limit=10), Express[int, int](list, limit=10, most=10)
    turns.close()
    express.close()
    for refused in (turns.run([partial(int, 1)]), express.run([1])):
        with pytest.raises(Overloaded, match="stopping"):
            await refused
