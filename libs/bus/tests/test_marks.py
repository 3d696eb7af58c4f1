"""Marks of what is being handled, and the gate that lets a suspect be alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anabranch_bus.marks import Gate, Mark, Marks


def marks(folder: Path | None) -> Marks:
    return Marks(folder, group="g", topic="t", partition=3)


def test_a_mark_that_was_not_cleared_is_found_by_the_next_process(tmp_path: Path) -> None:
    marks(tmp_path).begin(Mark(first=10, last=73, times=1))
    assert marks(tmp_path).found == Mark(first=10, last=73, times=1)


def test_a_mark_that_was_cleared_is_not_found(tmp_path: Path) -> None:
    left = marks(tmp_path)
    left.begin(Mark(first=10, last=73, times=1))
    left.clear()
    assert marks(tmp_path).found is None


def test_a_torn_mark_counts_as_none(tmp_path: Path) -> None:
    marks(tmp_path).close()
    (tmp_path / "g" / "t-3.mark").write_bytes(b'{"first": 1, "la')
    assert marks(tmp_path).found is None


def test_without_a_folder_nothing_is_kept_and_nothing_fails() -> None:
    nowhere = marks(None)
    nowhere.begin(Mark(first=1, last=2, times=1))
    nowhere.clear()
    assert nowhere.found is None


def test_a_folder_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    (tmp_path / "g").write_text("in the way")
    assert marks(tmp_path).found is None


@pytest.mark.parametrize(("size", "piece"), [(1, 1), (32, 1), (33, 5), (500, 22), (1_000, 31), (8_192, 90)])
def test_many_suspects_are_handled_in_pieces_of_the_root_and_few_one_by_one(size: int, piece: int) -> None:
    assert Mark(first=7, last=6 + size, times=1).piece == piece


def test_only_a_record_that_is_handled_by_itself_is_charged_with_an_end() -> None:
    batch = Mark(first=0, last=499, times=1)
    piece = batch.over(22, 43)
    single = piece.over(30, 30)
    assert piece == Mark(first=22, last=43, times=1)
    assert (single, single.over(30, 30).times) == (Mark(first=30, last=30, times=2), 3)


async def test_who_is_alone_is_alone() -> None:
    gate, inside, most, alone = Gate(), 0, 0, False

    async def visit(*, by_itself: bool) -> None:
        nonlocal inside, most, alone
        async with gate.enter(alone=by_itself):
            inside += 1
            most = max(most, inside)
            assert not alone
            assert not by_itself or inside == 1
            alone = by_itself
            await asyncio.sleep(0.001)
            alone = False
            inside -= 1

    await asyncio.gather(*(visit(by_itself=n % 7 == 3) for n in range(40)))
    assert most > 1


async def test_a_visitor_who_is_cancelled_while_waiting_leaves_the_gate_working() -> None:
    gate = Gate()
    async with gate.enter(alone=False):
        waiting = asyncio.create_task(gate.enter(alone=True).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(1), gate.enter(alone=False):
            pass
