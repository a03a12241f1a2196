"""Results computed ahead: in order, no further ahead than agreed, and errors in their places."""

import threading
import time

import pytest

from abaw.core.read_ahead import map_ahead


def test_results_come_in_order_whatever_finishes_first():
    def wait(ms: int) -> int:
        time.sleep(ms / 1000)
        return ms

    assert list(map_ahead(wait, [30, 1, 20, 2, 10], 4)) == [30, 1, 20, 2, 10]


@pytest.mark.parametrize(
    ("n_ahead", "sizes", "n_begun"),
    [
        # until the first result is asked for, items are taken while their sizes fit; one more is in work for the caller
        (None, [1] * 9, 4),
        (10, [4] * 9, 3),
        (10, [11] * 9, 1),
        (10, [1, 1, 9, 1, 1], 3),
    ],
)
def test_sizes_limit_how_far_it_goes_ahead(n_ahead, sizes, n_begun):
    taken = []

    def items():
        for size in sizes:
            taken.append(size)
            yield size

    results = map_ahead(lambda size: size, items(), 3, n_ahead, size=lambda size: size)
    assert next(results) == sizes[0]
    assert len(taken) == n_begun
    assert [sizes[0], *results] == sizes


def test_one_thread_computes_nothing_ahead():
    calls = []
    results = map_ahead(calls.append, "abc", 1)
    assert calls == []
    next(results)
    assert calls == ["a"]


def test_an_error_comes_in_its_place():
    results = map_ahead(lambda number: 1 // number, [1, 0, 1], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_ends_the_threads():
    n_before = threading.active_count()
    results = map_ahead(lambda number: number, range(100), 4)
    next(results)
    results.close()
    assert threading.active_count() == n_before
