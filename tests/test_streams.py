"""Batches worked on at the same time come out in their order."""

from __future__ import annotations

import threading
import time

import pytest

from semid.streams import in_order


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("batches", [0, 1, 2, 3, 20])
def test_order_is_kept_whatever_takes_longest(batches: int, at_once: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(in_order(work, range(batches), at_once)) == [n * n for n in range(batches)]


def test_as_many_as_asked_for_run_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=30)
    list(in_order(lambda _: together.wait(), range(6), 2))


def test_no_more_is_read_than_is_worked_on() -> None:
    read = []

    def batches():
        for number in range(20):
            read.append(number)
            yield number

    for done in in_order(lambda number: number, batches(), 3):
        assert len(read) - done <= 3


def test_a_failure_comes_in_its_place() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("batch 3")
        return number

    results = in_order(work, range(9), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="batch 3"):
        next(results)
