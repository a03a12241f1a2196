"""Smoothing against loops over every frame, and what must not leak from missing frames or other videos."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS
from abaw.evaluate.postprocessing.postprocess import Postprocess
from abaw.evaluate.postprocessing.smoothing import KINDS, MAX_WIDTH, Kind, Smoothing, parse_smoothing, smooth
from abaw.evaluate.predictions import VideoPrediction


def smooth_frame(values: np.ndarray, distances: np.ndarray, kind: str, width: int) -> float:
    """One frame from the values of its window, by textbook; a parabola through fewer than three points is a line."""
    if kind == "median":
        return float(np.median(values))
    if kind == "savgol":
        degree = min(2, len(values) - 1)
        scaled = distances / width
        terms = np.stack([scaled**power for power in range(degree + 1)], axis=1)
        return float(np.linalg.lstsq(terms, values, rcond=None)[0][0])
    weights = np.ones(len(values)) if kind == "box" else np.exp(-(distances**2) / (2 * (width / 4) ** 2))
    return float(np.average(values, weights=weights))


def smooth_slowly(values: np.ndarray, present: np.ndarray, kind: str, width: int) -> np.ndarray:
    """(frames,) by a loop over frames and over each window."""
    frames = np.flatnonzero(present)
    found = []
    for frame in frames:
        window = [other for other in range(frame - width // 2, frame + width // 2 + 1) if other in set(frames)]
        found.append(smooth_frame(values[window].astype(float), np.array(window) - frame, kind, width))
    return np.interp(np.arange(len(values)), frames, found)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_frames=st.integers(1, 60),
    share=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    width=st.sampled_from([3, 5, 7, 21, 59, 121]),
)
def test_every_kind_is_a_loop_over_windows(kind: Kind, seed: int, n_frames: int, share: float, width: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_frames, 2)).astype(np.float32)
    present = rng.random(n_frames) < share
    present[rng.integers(n_frames)] = True
    found = smooth(values, present, kind, width)
    for column in range(2):
        wanted = smooth_slowly(values[:, column], present, kind, width)
        np.testing.assert_allclose(found[:, column], wanted, atol=2e-6)


def test_box_by_hand() -> None:
    """Frame 3 is missing: 2 and 4 are means of two, 3 lies between these, and windows are cut off at the ends."""
    values = np.array([[1], [3], [100], [5], [9], [1]], dtype=np.float32)
    found = smooth(values, np.array([True, True, False, True, True, True]), "box", 3)
    assert found[:, 0].tolist() == [2, 2, 4.5, 7, 5, 5]


def test_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    values = np.array([[1], [100], [4], [8], [2]], dtype=np.float32)
    found = smooth(values, np.array([True, False, True, True, True]), "median", 5)
    assert found[:, 0].tolist() == [2.5, 2.75, 3, 4, 4]


def test_gaussian_is_cut_off_at_two_standard_deviations() -> None:
    values = np.zeros((21, 1), dtype=np.float32)
    values[10] = 1
    found = smooth(values, np.ones(21, dtype=bool), "gaussian", 9)[:, 0]
    assert np.flatnonzero(found > 1e-9).tolist() == list(range(6, 15))
    assert found[10] / found[14] == pytest.approx(np.exp(0.5 * (4 / (9 / 4)) ** 2), rel=1e-5)


@pytest.mark.parametrize("width", [5, 31, MAX_WIDTH])
def test_savgol_agrees_with_scipy_away_from_the_ends(width: int) -> None:
    values = np.random.default_rng(0).normal(size=(3000, 2)).cumsum(axis=0).astype(np.float32)
    found = smooth(values, np.ones(3000, dtype=bool), "savgol", width)
    inside = slice(width // 2, -(width // 2))
    np.testing.assert_allclose(found[inside], savgol_filter(values, width, 2, axis=0)[inside], atol=1e-3)


def test_savgol_keeps_a_parabola_through_gaps_and_ends() -> None:
    frames = np.arange(200.0)
    values = np.stack([(frames - 70) ** 2 / 1000, 3 - frames / 50], axis=1).astype(np.float32)
    present = np.random.default_rng(0).random(200) < 0.9
    found = smooth(np.where(present[:, None], values, np.nan), present, "savgol", 41)
    np.testing.assert_allclose(found[present], values[present], atol=1e-4)


def test_savgol_of_a_few_frames_at_the_rim_of_a_wide_window() -> None:
    """Four frames close together, or three far from a fourth, make sums that nearly cancel."""
    values = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    for frames in ([500, 501, 502, 503], [100, 597, 598, 599], [0, 1, 2, 500]):
        present = np.isin(np.arange(1000), frames)
        found = smooth(values, present, "savgol", MAX_WIDTH)
        np.testing.assert_allclose(found[:, 0], smooth_slowly(values[:, 0], present, "savgol", MAX_WIDTH), atol=1e-4)


# what must not leak


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [1e6, np.nan, np.inf])
def test_missing_frames_change_nothing_whatever_they_hold(kind: Kind, hidden: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 3)).astype(np.float32)
    present = rng.random(300) < 0.8
    present[100:150] = present[:3] = False
    changed = np.where(present[:, None], values, np.float32(hidden))
    wanted = smooth(values, present, kind, 31)
    np.testing.assert_array_equal(smooth(changed, present, kind, 31), wanted)
    assert np.isfinite(wanted).all()


def test_missing_frames_lie_on_the_line_between_their_smoothed_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1)).astype(np.float32)
    present = ~np.isin(np.arange(50), [0, 1, 20, 21, 22, 49])
    found = smooth(values, present, "gaussian", 11)[:, 0]
    assert found[0] == found[1] == found[2]
    assert found[49] == found[48]
    np.testing.assert_allclose(np.diff(found[19:24]), np.full(4, (found[23] - found[19]) / 4), atol=1e-6)


def test_videos_are_smoothed_by_themselves() -> None:
    rng = np.random.default_rng(0)
    first, other, second = (rng.normal(size=(40, 2)).astype(np.float32) for _ in range(3))
    step = Postprocess(smoothing=dict.fromkeys(("valence", "arousal"), Smoothing(kind="box", width=21)))

    def video(outputs: np.ndarray) -> VideoPrediction:
        return VideoPrediction(outputs, np.zeros((40, 2), dtype=np.float32), np.ones(40, dtype=bool), 25.0)

    one = step.apply_to(TASKS["va"], {"a": video(first), "b": video(second)})
    two = step.apply_to(TASKS["va"], {"a": video(other), "b": video(second)})
    np.testing.assert_array_equal(one["b"].outputs, two["b"].outputs)


def test_without_any_frame_present_all_count() -> None:
    values = np.array([[0], [3], [6]], dtype=np.float32)
    assert smooth(values, np.zeros(3, dtype=bool), "box", 3)[:, 0].tolist() == [1.5, 3, 4.5]


# widths


@pytest.mark.parametrize("kind", KINDS)
def test_each_output_has_its_own_width(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    values, present = rng.normal(size=(120, 4)).astype(np.float32), rng.random(120) < 0.9
    widths = [1, 5, 31, 5]
    found = smooth(values, present, kind, widths)
    for column, width in enumerate(widths):
        np.testing.assert_array_equal(found[:, [column]], smooth(values[:, [column]], present, kind, width))
    np.testing.assert_array_equal(found[:, 0], values[:, 0])


def test_input_is_left_as_it_is() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    smooth(values, np.ones(6, dtype=bool), "box", 3)
    assert values.ravel().tolist() == list(range(12))


def test_smoothing_is_written_kind_and_width() -> None:
    assert parse_smoothing("box:51") == Smoothing(kind="box", width=51)
    assert parse_smoothing(f"median:{MAX_WIDTH}").width == MAX_WIDTH


@pytest.mark.parametrize(
    "text",
    ["", "box", "box:", "box:50", "box:0", "box:-3", "box:1003", "mean:5", "box:5.0", "box:٣", "box:" + "1" * 5000],
)
def test_other_smoothings_are_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match="KIND:WIDTH, such as box:51, with a kind of box, gaussian, median, savgol and an odd"
    ):
        parse_smoothing(text)
