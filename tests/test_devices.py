"""Work cut into blocks: every row once, failures heard, thread counts as they were."""

from __future__ import annotations

import threading

import pytest
import torch

from semid.devices import in_blocks

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
    in_blocks(seen.append, rows, 8, CPU)
    seen.sort(key=lambda block: block.start)
    assert [row for block in seen for row in range(block.start, block.stop)] == list(range(rows))
    assert all(block.stop - block.start == 8 for block in seen[:-1])


def test_blocks_run_at_once_with_one_thread_each(two_threads) -> None:
    together, counts = threading.Barrier(2, timeout=30), []

    def work(block: slice) -> None:
        together.wait()  # two blocks that wait for each other
        counts.append(torch.get_num_threads())

    in_blocks(work, 16, 8, CPU)
    assert counts == [1, 1]


def test_thread_counts_are_left_as_they_were(two_threads) -> None:
    in_blocks(lambda block: None, 100, 8, CPU)
    assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


def test_a_failure_is_heard(two_threads) -> None:
    def work(block: slice) -> None:
        if block.start == 40:
            raise ValueError("block 40")

    with pytest.raises(ValueError, match="block 40"):
        in_blocks(work, 100, 8, CPU)
    assert torch.get_num_threads() == 2
