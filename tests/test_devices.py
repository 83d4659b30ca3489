"""Work cut into blocks: every row once, failures heard, thread counts as they were."""

from __future__ import annotations

import os
import threading
import time

import pytest
import torch

from semid.devices import Blocks

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 50])
def test_every_row_is_in_one_block(two_threads, rows: int) -> None:
    seen: list[slice] = []
    Blocks(CPU)(seen.append, rows, 8)
    seen.sort(key=lambda block: block.start)
    assert [row for block in seen for row in range(block.start, block.stop)] == list(range(rows))
    assert all(block.stop - block.start == 8 for block in seen[:-1])


def test_blocks_run_at_once_with_one_thread_each(two_threads) -> None:
    together, counts = threading.Barrier(2, timeout=30), []

    def work(block: slice) -> None:
        together.wait()  # two blocks that wait for each other
        counts.append(torch.get_num_threads())

    Blocks(CPU)(work, 16, 8)
    assert counts == [1, 1]


def test_thread_counts_are_left_as_they_were(two_threads) -> None:
    Blocks(CPU)(lambda block: None, 100, 8)
    assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


def test_threads_stay_and_follow_the_number_that_torch_is_given(two_threads) -> None:
    in_blocks = Blocks(CPU)

    def run() -> set[int]:
        together = threading.Barrier(torch.get_num_threads(), timeout=30)
        seen: list[int] = []

        def work(block: slice) -> None:
            together.wait()
            seen.append(threading.get_ident())

        in_blocks(work, torch.get_num_threads(), 1)
        return set(seen)

    threads = [run(), run()]
    torch.set_num_threads(3)
    assert threads[0] == threads[1]
    assert len(run()) == 3


def test_callers_at_the_same_time_share_the_threads(two_threads) -> None:
    in_blocks, seen = Blocks(CPU), set()

    def work(block: slice) -> None:
        seen.add((threading.get_ident(), torch.get_num_threads()))
        time.sleep(0.002)  # for the other thread to have some too

    callers = [threading.Thread(target=in_blocks, args=(work, 40, 1)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(seen) == 2
    assert {count for _, count in seen} == {1}
    assert torch.get_num_threads() == 2


def test_a_thread_that_cannot_start_leaves_none_waiting(two_threads, monkeypatch) -> None:
    start, started = threading.Thread.start, []

    def second_fails(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", second_fails)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Blocks(CPU)(lambda block: None, 16, 8)
    started[0].join(timeout=30)
    assert not started[0].is_alive()
    assert torch.get_num_threads() == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(two_threads) -> None:
    in_blocks = Blocks(CPU)
    in_blocks(lambda block: None, 4, 1)
    child = os.fork()
    if not child:
        seen: list[slice] = []
        in_blocks(seen.append, 4, 1)
        os._exit(len(seen))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def test_a_failure_is_heard(two_threads) -> None:
    def work(block: slice) -> None:
        if block.start == 40:
            raise ValueError("block 40")

    with pytest.raises(ValueError, match="block 40"):
        Blocks(CPU)(work, 100, 8)
    assert torch.get_num_threads() == 2
