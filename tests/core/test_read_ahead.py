"""Results computed ahead: in order, no further ahead than agreed, and errors in their places."""

import threading
import time

import pytest

from abaw.core.read_ahead import map_ahead, next_ahead


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


def test_the_next_one_is_made_while_one_is_in_use():
    begun, threads = threading.Event(), set()

    def items():
        for number in range(3):
            threads.add(threading.get_ident())
            if number == 1:
                begun.set()
            yield number
        raise ValueError("at the end")

    ahead = next_ahead(items())
    assert next(ahead) == 0 and begun.wait(5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="at the end"):
        next(ahead)
    assert threading.get_ident() not in threads
    n_threads = threading.active_count()
    others = next_ahead(iter(range(100)))
    assert next(others) == 0
    others.close()
    assert threading.active_count() == n_threads
