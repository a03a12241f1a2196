"""Intervals and p-values of scores, against loops over resampled frames, closed formulas and simulated truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS, Measure, Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.bootstrap import Difference, difference, interval, measures, n_units
from abaw.evaluate.scores.metrics import measure_names, score

PEARSON = replace(TASKS["va"], measure=Measure("mean r", "r", "pearson"))
VA, AU, LSD = TASKS["va"], TASKS["au"], TASKS["lsd"]
Predictions = dict[str, VideoPrediction]


def video(outputs: np.ndarray, labels: np.ndarray) -> VideoPrediction:
    return VideoPrediction(
        np.asarray(outputs, np.float32), np.asarray(labels, np.float32), np.ones(len(labels), bool), 25.0
    )


def simulate(task: Task, n_videos: int, noise: float, seed: int = 0) -> Predictions:
    """Videos of several lengths with invalid labels; labels depend on the seed alone, outputs on the noise, too."""
    of_labels, of_outputs = np.random.default_rng(seed), np.random.default_rng([seed, round(1000 * noise)])
    found = {}
    for number in range(n_videos):
        n = 1 if task.level == "video" else int(of_labels.integers(5, 40))
        outputs, labels = [], []
        for part, _, _ in task.each():
            width = len(part.outputs)
            if part.kind == "regression":
                rows = of_labels.normal(0, 0.2) + of_labels.normal(0, 0.2, (n, width))
                answers = rows + of_outputs.normal(0, noise, rows.shape)
                rows[of_labels.random(rows.shape) < 0.1] = part.invalid
            else:
                rows = of_labels.integers(-1, int(part.high) + 1, (n, len(part.columns)))
                answers = rows == np.arange(width) if part.kind == "classes" else rows - 0.5
                answers = answers + of_outputs.normal(0, noise, (n, width))
            outputs.append(answers)
            labels.append(rows)
        found[f"v{number}"] = video(np.concatenate(outputs, axis=1), np.concatenate(labels, axis=1))
    return found


def unlike_images(period: int) -> Predictions:
    """90 images of five of the six classes, not equally many of each; every `period`-th has a wrong prediction."""
    numbers = np.arange(90)
    labels = numbers**2 % 13 % 6
    answers = np.where(numbers % period == 0, (labels + 1 + numbers % 3) % 6, labels)
    return {"images": video(np.eye(6)[answers], labels[:, None])}


def pooled(task: Task, videos: list[VideoPrediction]) -> np.ndarray:
    """Every measure in the order of `measure_names`, by the official functions."""
    outputs, labels = (np.concatenate([getattr(one, name) for one in videos]) for name in ("outputs", "labels"))
    found = score(task, outputs, labels)
    return np.array([found.score, *(found.by_task.values() if task.parts else ()), *found.parts.values()])


def levels(draws: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    n = len(left_out)
    jackknife = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    end = stats.t.ppf(0.975, n - 1) * max(1, jackknife / draws.std() if jackknife else 1)
    return stats.norm.cdf([-end, end])


# point estimates


@pytest.mark.parametrize("name", sorted(TASKS))
def test_point_estimates_are_the_official_scores(name: str) -> None:
    task = TASKS[name]
    found = simulate(task, 25, 0.3)
    assert list(measures(task, found)) == list(measure_names(task))
    np.testing.assert_allclose(list(measures(task, found).values()), pooled(task, list(found.values())), atol=1e-9)


def test_point_estimates_far_from_zero_lose_no_digits() -> None:
    """Labels that differ in the fourth digit only."""
    rng = np.random.default_rng(0)
    labels = 0.9 + rng.normal(0, 1e-4, (5000, 2))
    found = {"a": video(labels + rng.normal(0, 1e-4, labels.shape), labels)}
    np.testing.assert_allclose(list(measures(VA, found).values()), pooled(VA, list(found.values())), atol=1e-9)


@pytest.mark.parametrize(("output", "label"), [(0.3, 0.3), (0.3, -0.7), (1e-3, 1e-3)])
def test_constants_have_ccc_0(output: float, label: float) -> None:
    found = {name: video(np.full((7, 2), output), np.full((7, 2), label)) for name in "abcd"}
    assert set(measures(VA, found).values()) == {0.0}
    assert set(interval(VA, found, n_draws=20).values()) == {(0.0, 0.0)}


def test_order_of_videos_does_not_matter() -> None:
    a, b = simulate(VA, 12, 0.8), simulate(VA, 12, 0.5)
    assert difference(VA, a, dict(reversed(b.items())), 300)["score"] == difference(VA, a, b, 300)["score"]


# intervals


@pytest.mark.parametrize("task", [VA, TASKS["expr"], AU, TASKS["mtl"], PEARSON], ids=lambda task: task.measure.name)
def test_interval_is_that_of_a_loop_over_the_same_draws(task: Task) -> None:
    n_draws = 30
    found = simulate(task, 9, 0.3)
    videos = list(found.values())
    counts = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9), size=n_draws)
    draws = np.array(
        [pooled(task, [one for one, n in zip(videos, row, strict=True) for _ in range(n)]) for row in counts]
    )
    left_out = np.array([pooled(task, videos[:i] + videos[i + 1 :]) for i in range(9)])
    for i, ends in enumerate(interval(task, found, n_draws, seed=5).values()):
        wanted = np.quantile(draws[:, i], levels(draws[:, i], left_out[:, i]))
        assert ends == pytest.approx(wanted, abs=1e-9)


def test_difference_is_that_of_a_loop_over_the_same_draws() -> None:
    """Each draw takes the same videos for both."""
    a, b = simulate(AU, 9, 0.8), simulate(AU, 9, 0.7)
    counts = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9), size=400)

    def gain(chosen: list[str]) -> np.ndarray:
        return pooled(AU, [b[name] for name in chosen]) - pooled(AU, [a[name] for name in chosen])

    draws = np.array([gain([name for name, n in zip(a, row, strict=True) for _ in range(n)]) for row in counts])
    left_out = np.array([gain([name for name in a if name != left]) for left in a])
    for i, found in enumerate(difference(AU, a, b, 400, seed=5).values()):
        assert found.estimate == pytest.approx(gain(list(a))[i], abs=1e-9)
        n_beyond = math.floor(401 * levels(draws[:, i], left_out[:, i])[0])
        wanted = sorted(draws[:, i])[n_beyond - 1], sorted(draws[:, i])[-n_beyond]
        assert n_beyond >= 1
        assert (found.low, found.high) == pytest.approx(wanted, abs=1e-9)


def test_accuracy_of_whole_videos_has_the_interval_of_a_proportion() -> None:
    """80 of 100 right: the binomial's standard error is .04."""
    task = TASKS["vgaf"]
    found = {f"v{i}": video(np.eye(3)[[i % 3]], np.array([[i % 3 if i < 80 else (i + 1) % 3]])) for i in range(100)}
    low, high = interval(task, found)["score"]
    assert (low, high) == pytest.approx((0.8 - 1.98 * 0.04, 0.8 + 1.98 * 0.04), abs=0.012)


def test_images_are_drawn_one_by_one() -> None:
    """Each folder is a class: were folders drawn, many draws would lack one. F1 of two classes, each right in 9 of 10."""
    answers = np.repeat([[0, 1], [1, 0]], [900, 100], axis=0)
    found = {
        name: video(np.eye(6)[answers[:, i]], np.full((1000, 1), i)) for i, name in enumerate(("anger", "disgust"))
    }
    assert n_units(LSD, found) == 2000
    low, high = interval(LSD, found)["Anger"]
    spread = math.sqrt(0.9 * 0.1 / 2000)  # F1 is near the share of right answers, as the classes are alike
    assert (low, high) == pytest.approx((0.9 - 1.96 * spread, 0.9 + 1.96 * spread), abs=0.003)


def test_intervals_of_images_are_those_of_earlier_versions() -> None:
    """Kinds of images are sorted before they are drawn: the order of their sums decides what a seed draws."""
    first, second = (unlike_images(period) for period in (4, 7))
    ends = interval(LSD, first)
    assert ends["score"] == pytest.approx((0.4468479790613185, 0.5698726588630516), abs=1e-12)
    assert ends["Anger"] == pytest.approx((0.6111111111111112, 0.9032258064516129), abs=1e-12)
    gain = difference(LSD, first, second)["score"]
    expected = (-0.009236596736596714, 0.14198641181218086, 0.09067517924693506)
    assert (gain.low, gain.high, gain.p_value) == pytest.approx(expected, abs=1e-12)


def test_videos_without_labels_are_not_drawn() -> None:
    found = simulate(VA, 12, 0.3)
    more = found | {"none": video(np.zeros((9, 2)), np.full((9, 2), -5))}
    assert (n_units(VA, found), n_units(VA, more)) == (12, 12)
    assert interval(VA, more, 50) == interval(VA, found, 50)


@pytest.mark.parametrize("n_videos", [1, 2, 3])
def test_fewer_than_four_videos_have_no_interval_and_no_p(n_videos: int) -> None:
    found, better = simulate(VA, n_videos, 0.9), simulate(VA, n_videos, 0.1)
    more = {"none": video(np.zeros((9, 2)), np.full((9, 2), -5))}
    assert all(math.isnan(low) and math.isnan(high) for low, high in interval(VA, found | more).values())
    for name, gain in difference(VA, found | more, better | more).items():
        assert gain.estimate == pytest.approx(measures(VA, better)[name] - measures(VA, found)[name])
        assert all(map(math.isnan, (gain.low, gain.high, gain.p_value)))


def test_four_videos_have_an_interval_and_p() -> None:
    found = simulate(VA, 4, 0.3)
    assert all(low < high for low, high in interval(VA, found).values())
    assert set(difference(VA, found, found).values()) == {Difference(0, 0, 0, 1)}


def test_same_seed_same_interval() -> None:
    found = simulate(VA, 20, 0.3)
    assert interval(VA, found, 500) == interval(VA, found, 500)
    assert interval(VA, found, 500) != interval(VA, found, 500, seed=1)


@pytest.mark.filterwarnings("error")
def test_draws_without_a_class_or_with_a_single_row_warn_of_nothing() -> None:
    for task in TASKS.values():
        found = dict(list(simulate(task, 40, 0.3).items())[:4])
        one_row = {name: video(one.outputs[:1], one.labels[:1]) for name, one in found.items()}
        interval(task, one_row, 100)


# truth


def coverage(task: Task, draw_outputs_and_labels, truth: float, n_data_sets: int, n_videos: int) -> float:
    """Share of intervals of the outputs of a task that hold the truth, which is the same for all of them."""
    rng = np.random.default_rng(20)
    hits = []
    for _ in range(n_data_sets):
        found = {str(i): video(*draw_outputs_and_labels(rng)) for i in range(n_videos)}
        ends = interval(task, found, 400, seed=int(rng.integers(2**31)))
        hits += [ends[name][0] <= truth <= ends[name][1] for name in task.outputs]
    return float(np.mean(hits))


def test_intervals_of_ccc_hold_the_truth() -> None:
    """Video and frame have their own deviations, of labels and of outputs .5 label + error: moments add up."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        n = rng.integers(10, 30)
        labels = rng.normal(0, 0.15, 2) + rng.normal(0, 0.1, (n, 2))
        return 0.5 * labels + 0.05 + rng.normal(0, 0.08, 2) + rng.normal(0, 0.06, (n, 2)), labels

    of_labels = 0.15**2 + 0.1**2
    truth = 2 * 0.5 * of_labels / (of_labels + 0.25 * of_labels + 0.08**2 + 0.06**2 + 0.05**2)
    assert 0.93 <= coverage(VA, draw, truth, 500, 60) <= 0.97


def test_intervals_of_f1_hold_the_truth() -> None:
    """A unit is on in a share of a video's frames that varies as Beta(2, 4), right in 8 of 10 frames; F1 by hand."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        actual = rng.random((20, 12)) < rng.beta(2, 4, 12)
        said = actual ^ (rng.random((20, 12)) < 0.2)
        return said - 0.5, actual

    on = 1 / 3
    truth = 2 * 0.8 * on / (0.8 * on + 0.2 * (1 - on) + on)
    assert 0.93 <= coverage(AU, draw, truth, 120, 60) <= 0.97


def test_p_values_of_equal_runs_are_uniform() -> None:
    """Two runs that err alike: as many p-values below .05, .25 and .5 as these numbers say."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng([3, seed])
        a, b = {}, {}
        for i in range(60):
            actual = rng.random((15, 12)) < 0.4
            for run in (a, b):
                run[str(i)] = video((actual ^ (rng.random((15, 12)) < rng.beta(2, 6, 12))) - 0.5, actual)
        gains = difference(AU, a, b, 400, seed)
        found += [gains[name].p_value for name in AU.outputs]
    shares = [float(np.mean(np.array(found) < level)) for level in (0.05, 0.25, 0.5)]
    assert shares == pytest.approx([0.05, 0.25, 0.5], abs=0.05)
    assert shares[0] < 0.08


# differences


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_run_is_no_better_than_itself(name: str) -> None:
    found = simulate(TASKS[name], 15, 0.3)
    assert set(difference(TASKS[name], found, found, 200).values()) == {Difference(0, 0, 0, 1)}


@pytest.mark.parametrize("name", ["va", "expr", "au", "mtl"])
def test_a_much_better_run_is_told_from_chance(name: str) -> None:
    task = TASKS[name]
    worse, better = simulate(task, 40, 0.9), simulate(task, 40, 0.2)
    gain = difference(task, worse, better)["score"]
    assert 0 < gain.low < gain.estimate < gain.high
    assert gain.p_value < 0.001
    back = difference(task, better, worse)["score"]
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low), abs=1e-9)
    assert back.p_value == pytest.approx(gain.p_value)


@pytest.mark.parametrize(("n_videos", "noise"), [(4, 0.1), (5, 0.1), (6, 0.3), (8, 0.6), (25, 0.85)])
def test_p_is_small_just_where_the_interval_leaves_out_0(n_videos: int, noise: float) -> None:
    """Of few videos all draws may lie on one side of 0 and p still not be below .05: then there is neither."""
    gains = []
    for seed in range(8):
        a, b = simulate(AU, n_videos, 0.9, seed), simulate(AU, n_videos, noise, seed)
        gains += list(difference(AU, a, b).values())
    assert all(math.isnan(gain.low) == math.isnan(gain.high) == math.isnan(gain.p_value) for gain in gains)
    apart = [gain.p_value for gain in gains if gain.low > 0 or gain.high < 0]
    around = [gain.p_value for gain in gains if gain.low <= 0 <= gain.high]
    assert len(apart) > 5
    assert max(apart) < 0.05
    assert len(around) > 5 or n_videos < 8
    assert min(around, default=1) > 0.05


def test_a_difference_that_hangs_on_one_video_cannot_be_told() -> None:
    """Only one of eight videos shows the unit, and the first run never finds it."""
    actual = np.random.default_rng(0).random((8, 20, 12)) < 0.5
    actual[1:, :, 0] = False
    none = actual & (np.arange(12) > 0)
    a, b = (
        {str(i): video(s - 0.5, t) for i, (s, t) in enumerate(zip(said, actual, strict=True))}
        for said in (none, actual)
    )
    found = difference(AU, a, b)
    assert found["AU1"].estimate == 1
    assert math.isnan(found["AU1"].low) and math.isnan(found["AU1"].p_value)
    assert found["AU2"] == Difference(0, 0, 0, 1)


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    """Hard videos are hard for both, so the interval of the difference is far shorter than those of the scores."""
    a = simulate(VA, 40, 0.3)
    b = {name: video(one.outputs * 0.98, one.labels) for name, one in a.items()}
    gain, (low, high) = difference(VA, a, b)["score"], interval(VA, a)["score"]
    assert gain.high - gain.low < 0.2 * (high - low)


def test_other_videos_or_labels_are_refused() -> None:
    found = simulate(VA, 5, 0.3)
    fewer = {name: one for name, one in found.items() if name != "v3"}
    with pytest.raises(UsageError, match="Only the first has predictions for v3: different stores or folds"):
        difference(VA, found, fewer)
    with pytest.raises(UsageError, match="Only the second has predictions for v3"):
        difference(VA, fewer, found)
    labels = found["v2"].labels.copy()
    labels[1, 0] = 0.125
    with pytest.raises(UsageError, match="have different labels for v2"):
        difference(VA, found, found | {"v2": video(found["v2"].outputs, labels)})


def test_rows_after_the_last_label_may_be_in_one_run_only() -> None:
    found = simulate(VA, 5, 0.3)
    rows = {
        name: (np.concatenate([one.outputs, [[9, 9]]]), np.concatenate([one.labels, [[-5, -5]]]))
        for name, one in found.items()
    }
    longer = {name: video(*pair) for name, pair in rows.items()}
    assert difference(VA, found, longer)["score"] == Difference(0, 0, 0, 1)
    labelled = longer | {"v0": video(rows["v0"][0], np.concatenate([found["v0"].labels, [[0, 0]]]))}
    with pytest.raises(UsageError, match="have different labels for v0"):
        difference(VA, found, labelled)
