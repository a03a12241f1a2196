"""Which values are finite, and their range, against numpy."""

import numpy as np
import pytest

from abaw.core import finite
from abaw.core.finite import finite_rows, largest_magnitude

EVERY_FLOAT16 = np.arange(2**16, dtype=np.uint16).view(np.float16)


def test_every_float16_has_the_magnitude_that_numpy_gives_it() -> None:
    for value in EVERY_FLOAT16[::31]:
        np.testing.assert_equal(largest_magnitude(value.reshape(1)), float(np.abs(value)))


@pytest.mark.parametrize("dtype", ["f2", ">f2", "f4"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (70, 3), (9, 2, 4)])
def test_rows_and_range_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch, dtype: str, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(finite, "BLOCK", 16)
    rng = np.random.default_rng(0)
    for bad in (None, np.nan, -np.nan, np.inf, -np.inf):
        values = (rng.normal(size=shape) * 1000).astype(dtype)
        if bad is not None and values.size:
            values.reshape(-1)[rng.integers(values.size, size=2)] = bad
        assert values.dtype == dtype
        wanted = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        for view in (values, values[::-1]):
            np.testing.assert_array_equal(finite_rows(view), wanted if view is values else wanted[::-1])
            largest = largest_magnitude(view)
            assert np.isfinite(largest) == wanted.all()
            if wanted.all():
                assert largest == float(np.abs(values).max(initial=0))


def test_values_without_any_number_are_finite() -> None:
    assert finite_rows(np.zeros((4, 0), dtype=np.float16)).tolist() == [True] * 4
    assert largest_magnitude(np.zeros((4, 0), dtype=np.float16)) == 0
