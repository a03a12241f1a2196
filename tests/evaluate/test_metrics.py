"""The official measures against recorded outputs, scikit-learn, closed formulas and cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, recall_score

from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS, GROUP_EMOTIONS, LSD_CLASSES, TASKS, Measure, Task
from abaw.evaluate.scores.metrics import decide, measures_of, row_sums, score
from abaw.tests.support.paths import DATA

VA, EXPR, AU = TASKS["va"], TASKS["expr"], TASKS["au"]
MTL, LSD, VGAF = TASKS["mtl"], TASKS["lsd"], TASKS["vgaf"]
REFERENCE = np.load(DATA / "reference" / "losses.npz")

pairs = st.lists(
    st.tuples(st.floats(-1, 1, allow_subnormal=False), st.floats(-1, 1, allow_subnormal=False)),
    min_size=2,
    max_size=60,
)


def one_hot(classes: list[int], n_classes: int = 8) -> np.ndarray:
    """Logits whose largest is the given class."""
    return np.eye(n_classes, dtype=np.float32)[classes]


def column(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def regression(of_output: str, pooled: str = "mean", width: int = 1) -> Task:
    """A task of real numbers whose labels may be any of -1000 to 1000; -5000 is not annotated."""
    names, measure = tuple(f"v{i}" for i in range(width)), Measure("m", "m", of_output, pooled)
    return Task("r", "regression", names, names, -5000, -1000, 1000, "ccc", measure)


def measured(of_output: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """The measure of one output."""
    return score(regression(of_output), predictions[:, None], labels[:, None]).score


def ccc(predictions: np.ndarray, labels: np.ndarray) -> float:
    return measured("ccc", predictions, labels)


def closed_formula(x: np.ndarray, y: np.ndarray) -> float:
    """CCC by raw moments, E[xy] - E[x]E[y] and so on, instead of centred sums."""
    covariance = np.mean(x * y) - np.mean(x) * np.mean(y)
    spread = np.mean(x * x) - np.mean(x) ** 2 + np.mean(y * y) - np.mean(y) ** 2 + (np.mean(x) - np.mean(y)) ** 2
    return float(2 * covariance / spread)


# recorded outputs


def test_va_agrees_with_the_reference() -> None:
    found = score(VA, REFERENCE["va_pred"], REFERENCE["va_labels"])
    np.testing.assert_allclose(list(found.parts.values()), REFERENCE["metric_ccc"], atol=1e-6)
    assert found.score == pytest.approx(REFERENCE["metric_ccc"].mean(), abs=1e-6)


def test_expr_agrees_with_the_reference() -> None:
    labels = REFERENCE["cotex_labels"]
    assert (labels == -1).any()
    found = score(EXPR, REFERENCE["expr_logits"], labels[:, None])
    assert found.score == pytest.approx(float(REFERENCE["metric_expr_macro_f1"]), abs=1e-6)
    assert found.n_frames == (labels != -1).sum()


def test_au_agrees_with_the_reference() -> None:
    found = score(AU, REFERENCE["au_logits"], REFERENCE["au_labels"])
    np.testing.assert_allclose([found.parts[name] for name in ACTION_UNITS], REFERENCE["metric_au_f1"], atol=1e-6)
    assert found.score == pytest.approx(REFERENCE["metric_au_f1"].mean(), abs=1e-6)


# scikit-learn


@pytest.mark.parametrize("n_classes", [8, 5, 1])
def test_macro_f1_is_scikit_learns(n_classes: int) -> None:
    """With `n_classes` below 8 some classes never occur; scikit-learn counts them 0 as the challenges do."""
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(-1, n_classes, 500)
    logits = rng.normal(size=(500, 8)).astype(np.float32)
    logits[:, n_classes:] = -100
    kept = labels >= 0
    wanted = f1_score(labels[kept], logits[kept].argmax(1), labels=range(8), average=None, zero_division=0)
    found = score(EXPR, logits, labels[:, None])
    np.testing.assert_allclose([found.parts[name] for name in EXPRESSIONS], wanted, atol=1e-12)
    assert found.score == pytest.approx(wanted.mean(), abs=1e-12)


def test_au_f1_is_scikit_learns_per_unit() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (400, 12)).astype(np.float32)
    logits = rng.normal(size=(400, 12)).astype(np.float32)
    wanted = []
    for unit in range(12):
        kept = labels[:, unit] != -1
        wanted.append(f1_score(labels[kept, unit], logits[kept, unit] > 0, zero_division=0))
    found = score(AU, logits, labels)
    np.testing.assert_allclose([found.parts[name] for name in ACTION_UNITS], wanted, atol=1e-12)
    assert found.score == pytest.approx(np.mean(wanted), abs=1e-12)


@pytest.mark.parametrize("n_classes", [6, 4, 1])
def test_lsd_is_scikit_learns_macro_f1(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(-1, n_classes, 300)
    logits = rng.normal(size=(300, 6)).astype(np.float32)
    kept = labels >= 0
    wanted = f1_score(labels[kept], logits[kept].argmax(1), labels=range(6), average=None, zero_division=0)
    found = score(LSD, logits, labels[:, None].astype(np.int8))
    np.testing.assert_allclose([found.parts[name] for name in LSD_CLASSES], wanted, atol=1e-12)
    assert found.score == pytest.approx(wanted.mean(), abs=1e-12)
    assert found.by_task == {"lsd": found.score}


def test_vgaf_is_scikit_learns_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, 300)
    logits = rng.normal(size=(300, 3)).astype(np.float32)
    kept = labels >= 0
    answers = logits[kept].argmax(1)
    found = score(VGAF, logits, labels[:, None].astype(np.float32))
    assert found.score == pytest.approx(accuracy_score(labels[kept], answers), abs=1e-12)
    wanted = f1_score(labels[kept], answers, labels=range(3), average=None, zero_division=0)
    np.testing.assert_allclose([found.parts[name] for name in GROUP_EMOTIONS], wanted, atol=1e-12)
    assert found.n_frames == kept.sum()


def test_mtl_is_the_sum_of_three_measures() -> None:
    """Each value of a row is annotated or not by itself; no row has an Other, none an AU26."""
    rng = np.random.default_rng(0)
    n = 600
    va, va_labels = rng.normal(0, 0.7, (n, 2)), np.where(rng.random((n, 2)) < 0.2, -5, rng.uniform(-1, 1, (n, 2)))
    logits, classes = rng.normal(size=(n, 8)), rng.integers(-1, 7, n)
    unit_logits, units = rng.normal(size=(n, 12)), rng.integers(-1, 2, (n, 12))
    units[:, 11] = np.minimum(units[:, 11], 0)
    labels = np.concatenate([va_labels, classes[:, None], units], axis=1)
    found = score(MTL, np.concatenate([va, logits, unit_logits], axis=1), labels)

    agreement = []
    for value in range(2):
        kept = va_labels[:, value] != -5
        agreement.append(closed_formula(va[kept, value].clip(-1, 1), va_labels[kept, value]))
    kept = classes != -1
    expressions = f1_score(classes[kept], logits[kept].argmax(1), labels=range(8), average=None, zero_division=0)
    kept = units != -1
    active = [
        f1_score(units[kept[:, unit], unit], unit_logits[kept[:, unit], unit] > 0, zero_division=0)
        for unit in range(12)
    ]
    wanted = {"va": np.mean(agreement), "expr": np.mean(expressions), "au": np.mean(active)}
    assert found.by_task == {name: pytest.approx(value, abs=1e-12) for name, value in wanted.items()}
    assert found.score == pytest.approx(sum(wanted.values()), abs=1e-12)
    assert tuple(found.parts) == tuple(found.support) == MTL.outputs
    np.testing.assert_allclose(list(found.parts.values()), [*agreement, *expressions, *active], atol=1e-12)
    assert found.parts["Other"] == found.parts["AU26"] == 0
    assert found.support["arousal"] == (va_labels[:, 1] != -5).sum()
    assert found.support["AU1"] == (units[:, 0] == 1).sum()


# CCC by hand


@pytest.mark.parametrize(
    ("predictions", "labels", "wanted"),
    [
        ([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], 1.0),
        ([0.0, 0.5, 1.0], [1.0, 0.5, 0.0], -1.0),
        # variances 1/4, covariance 1/4, means differ by 1: (2/4) / (1/4 + 1/4 + 1)
        ([0.0, 1.0], [1.0, 2.0], 1 / 3),
        # variances 1 and 4, covariance 2, means equal: 4 / 5
        ([-1.0, 1.0], [-2.0, 2.0], 4 / 5),
        # covariance of (1, 2, 3) and (1, 3, 2) is 1/3, variances 2/3 each
        ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], 1 / 2),
    ],
)
def test_ccc_by_hand(predictions: list[float], labels: list[float], wanted: float) -> None:
    assert ccc(np.array(predictions), np.array(labels)) == pytest.approx(wanted, abs=1e-12)


@given(pairs)
def test_ccc_is_the_closed_formula(values: list[tuple[float, float]]) -> None:
    x, y = np.array(values).T
    if x.std() + y.std() > 1e-3:
        assert ccc(x, y) == pytest.approx(closed_formula(x, y), abs=1e-6)


@given(pairs)
def test_ccc_is_symmetric_and_within_one(values: list[tuple[float, float]]) -> None:
    x, y = np.array(values).T
    found = ccc(x, y)
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    assert found == pytest.approx(ccc(y, x), abs=1e-12)


def test_ccc_of_float32_is_taken_in_float64() -> None:
    """A million frames far from zero: float32 sums would lose the third digit."""
    rng = np.random.default_rng(0)
    y = (0.9 + 0.001 * rng.normal(size=1_000_000)).astype(np.float32)
    x = (y + 0.001 * rng.normal(size=len(y))).astype(np.float32)
    assert ccc(x, y) == pytest.approx(closed_formula(x.astype(np.longdouble), y.astype(np.longdouble)), abs=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.25, 0.5, -1.0])
def test_constant_prediction_has_ccc_0(level: float) -> None:
    labels = np.linspace(-1, 1, 100)
    assert ccc(np.full(100, level), labels) == pytest.approx(0, abs=1e-12)


@given(st.floats(-1, 1, allow_subnormal=False), st.integers(0, 50))
def test_equal_constants_have_ccc_0(level: float, n: int) -> None:
    assert ccc(np.full(n, level), np.full(n, level)) == 0


def test_fewer_than_two_values_have_ccc_0() -> None:
    assert ccc(np.array([]), np.array([])) == 0
    assert ccc(np.array([0.3]), np.array([0.3])) == 0


# Pearson's correlation


@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (0.9, 1e-4), (-300, 1e-3)])
def test_pearson_is_scipys(offset: float, spread: float) -> None:
    """Far from zero, with means that differ by many deviations, and with labels that are not annotated."""
    rng = np.random.default_rng(0)
    labels = offset + spread * rng.normal(size=(500, 3))
    outputs = 0.5 + spread * rng.normal(size=labels.shape) + 0.7 * labels
    valid = rng.random(labels.shape) < 0.8
    found = score(regression("pearson", width=3), outputs, np.where(valid, labels, -5000))
    wanted = [pearsonr(outputs[valid[:, i], i], labels[valid[:, i], i])[0] for i in range(3)]
    # what float64 can tell of means this far from the spread
    np.testing.assert_allclose(list(found.parts.values()), wanted, atol=1e-12 if offset == 0 else 1e-9)
    assert found.score == pytest.approx(np.mean(wanted), abs=1e-9)
    assert list(found.support.values()) == valid.sum(axis=0).tolist()


@given(pairs)
def test_pearson_is_scipys_for_any_values(values: list[tuple[float, float]]) -> None:
    x, y = np.array(values).T
    if min(x.std(), y.std()) > 1e-3:
        assert measured("pearson", x, y) == pytest.approx(pearsonr(x, y)[0], abs=1e-9)


def test_pearson_does_not_mind_scale_and_shift() -> None:
    x = np.random.default_rng(0).normal(size=50)
    assert measured("pearson", x, 3 * x + 7) == pytest.approx(1, abs=1e-12)
    assert measured("pearson", x, -0.1 * x) == pytest.approx(-1, abs=1e-12)


@given(st.floats(-1, 1, allow_subnormal=False), st.integers(0, 50))
def test_pearson_of_a_constant_is_0(level: float, n: int) -> None:
    assert measured("pearson", np.full(n, level), np.linspace(-1, 1, n)) == 0
    assert measured("pearson", np.linspace(-1, 1, n), np.full(n, level)) == 0


@pytest.mark.parametrize("of_output", ["ccc", "pearson"])
def test_values_of_all_outputs_may_be_one_sample(of_output: str) -> None:
    rng = np.random.default_rng(1)
    labels = np.array([-0.8, 0.1, 0.9]) + 0.01 * rng.normal(size=(200, 3))
    outputs = labels + 0.05 * rng.normal(size=labels.shape)
    labels[::7, 1] = -5000
    kept = labels > -5000
    x, y = outputs[kept], labels[kept]
    wanted = pearsonr(x, y)[0] if of_output == "pearson" else closed_formula(x, y)
    found = score(regression(of_output, "all", 3), outputs, labels)
    assert found.score == pytest.approx(wanted, abs=1e-9)
    assert max(found.parts.values()) < 0.5 < found.score


# accuracy and pooled F1


def classes(of_output: str, pooled: str) -> Task:
    return Task("c", "classes", tuple("abcd"), ("c",), -1, 0, 3, "cross-entropy", Measure("m", "m", of_output, pooled))


def units(of_output: str, pooled: str) -> Task:
    return Task("u", "binary", tuple("abcd"), tuple("abcd"), -1, 0, 1, "bce", Measure("m", "m", of_output, pooled))


def test_accuracy_of_a_class_is_its_recall() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(-1, 3, 300), rng.normal(size=(300, 4))
    kept = labels >= 0
    actual, answers = labels[kept], logits[kept].argmax(axis=1)
    recalls = recall_score(actual, answers, labels=range(4), average=None, zero_division=0)
    for pooled, wanted in (("mean", recalls.mean()), ("all", accuracy_score(actual, answers))):
        found = score(classes("accuracy", pooled), logits, labels[:, None])
        np.testing.assert_allclose(list(found.parts.values()), recalls, atol=1e-12)
        assert found.score == pytest.approx(wanted, abs=1e-12)
        assert list(found.support.values()) == np.bincount(actual, minlength=4).tolist()


def test_accuracy_of_a_unit_is_over_all_its_labels() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(-1, 2, (300, 4)), rng.normal(size=(300, 4))
    labels[50:, 3] = -1
    kept = labels >= 0
    shares = [accuracy_score(labels[kept[:, i], i], logits[kept[:, i], i] > 0) for i in range(4)]
    for pooled, wanted in (("mean", np.mean(shares)), ("all", accuracy_score(labels[kept], logits[kept] > 0))):
        found = score(units("accuracy", pooled), logits, labels)
        np.testing.assert_allclose(list(found.parts.values()), shares, atol=1e-12)
        assert found.score == pytest.approx(wanted, abs=1e-12)
        assert list(found.support.values()) == (labels == 1).sum(axis=0).tolist()


def test_f1_of_all_units_together_is_scikit_learns_micro_f1() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, (300, 4)), rng.normal(size=(300, 4))
    wanted = f1_score(labels, logits > 0, average="micro")
    assert score(units("f1", "all"), logits, labels).score == pytest.approx(wanted, abs=1e-12)


# what counts


def test_invalid_va_masks_only_its_own_value() -> None:
    outputs = np.array([[0.0, 0.9], [1.0, 0.0], [0.5, 1.0], [0.2, 0.5]])
    labels = np.array([[0.0, -5.0], [1.0, 0.0], [0.5, 1.0], [-5.0, 0.5]])
    found = score(VA, outputs, labels)
    assert found.parts == {"valence": pytest.approx(1), "arousal": pytest.approx(1)}
    assert found.support == {"valence": 3, "arousal": 3}
    assert found.n_frames == 4


def test_minus_one_is_a_va_value() -> None:
    labels = np.array([[-1.0, -1.0], [1.0, 1.0]])
    found = score(VA, labels, labels)
    assert found.support == {"valence": 2, "arousal": 2}
    assert found.score == pytest.approx(1)


def test_va_outputs_are_clipped_to_the_range() -> None:
    labels = np.array([[-1.0, 0.0], [1.0, 0.5]])
    assert score(VA, labels * 100, np.array([[-1.0, 0.0], [1.0, 1.0]])).score == pytest.approx(1)
    assert decide(VA, np.array([[7.0, -7.0]])).tolist() == [[1, -1]]


def test_class_that_never_occurs_counts_0() -> None:
    """All answers are right, yet six of eight classes neither occur nor are predicted: 2/8."""
    found = score(EXPR, one_hot([0, 1, 1]), column([0, 1, 1]))
    assert found.score == pytest.approx(2 / 8)
    assert found.parts["Other"] == 0
    assert found.support == {**dict.fromkeys(EXPRESSIONS, 0), "Neutral": 1, "Anger": 2}


def test_macro_f1_by_hand() -> None:
    # Neutral: 2 hits, 1 false alarm, 1 missed: 4/6. Anger: 1 hit, 1 false alarm, 1 missed: 2/4. The row of -1 is left out
    found = score(EXPR, one_hot([0, 0, 0, 1, 1, 7]), column([0, 0, 1, 1, 0, -1]))
    assert found.parts["Neutral"] == pytest.approx(4 / 6)
    assert found.parts["Anger"] == pytest.approx(1 / 2)
    assert found.parts["Other"] == 0
    assert found.score == pytest.approx((4 / 6 + 1 / 2) / 8)
    assert found.n_frames == 5


def test_action_unit_that_never_occurs_counts_0() -> None:
    labels = np.zeros((4, 12), dtype=np.float32)
    labels[:2, 0] = 1
    found = score(AU, np.where(labels == 1, 3.0, -3.0), labels)
    assert found.parts["AU1"] == 1
    assert found.score == pytest.approx(1 / 12)
    assert found.support["AU1"] == 2
    assert found.support["AU2"] == 0


def test_action_unit_needs_more_than_one_half() -> None:
    labels = np.ones((2, 12), dtype=np.float32)
    outputs = np.full((2, 12), 0.001)
    outputs[:, 0] = -0.001  # probability just below one half
    found = score(AU, outputs, labels)
    assert found.parts["AU1"] == 0
    assert found.parts["AU2"] == 1


def test_invalid_au_masks_only_its_own_value() -> None:
    labels = np.ones((2, 12), dtype=np.float32)
    labels[1, 0] = -1
    outputs = np.full((2, 12), 5.0)
    outputs[1, 0] = -5  # would be a miss if it counted
    found = score(AU, outputs, labels)
    assert found.score == 1
    assert found.support["AU1"] == 1


INVALID = {"va": [-5] * 2, "expr": [-1], "au": [-1] * 12, "mtl": [-5] * 2 + [-1] * 13, "lsd": [-1], "vgaf": [-1]}


@pytest.mark.parametrize("name", sorted(INVALID))
def test_no_valid_label_scores_0(name: str) -> None:
    task = TASKS[name]
    for n in (0, 3):
        labels = np.array([INVALID[name]] * n, dtype=np.float32).reshape(n, len(INVALID[name]))
        found = score(task, np.ones((n, len(task.outputs))), labels)
        assert found.score == 0
        assert set(found.by_task.values()) == {0}
        assert found.n_frames == 0
        assert set(found.support.values()) == {0}


def test_accuracy_by_hand() -> None:
    """Of five answers three are right, the sixth is not asked for; F1 of Positive 2*2/(3+2), of Neutral 2*1/(2+2)."""
    found = score(VGAF, one_hot([0, 0, 0, 1, 1, 2], 3), column([0, 0, 1, 1, 2, -1]))
    assert found.score == pytest.approx(3 / 5)
    assert found.parts == {"Positive": pytest.approx(4 / 5), "Neutral": pytest.approx(2 / 4), "Negative": 0}
    assert found.support == {"Positive": 2, "Neutral": 2, "Negative": 1}
    assert found.by_task == {"vgaf": found.score}
    assert found.n_frames == 5


def test_all_right_is_3_for_mtl_and_1_for_accuracy() -> None:
    """All twelve units and all eight classes occur, so that each can have an F1 of 1."""
    classes = np.arange(8)
    va = np.linspace(-1, 1, 16).reshape(8, 2)
    units = np.tile(classes[:, None] % 2, (1, 12))
    outputs = np.concatenate([va, one_hot(classes.tolist()), np.where(units == 1, 4.0, -4.0)], axis=1)
    found = score(MTL, outputs, np.concatenate([va, classes[:, None], units], axis=1))
    assert found.score == pytest.approx(3)
    assert found.by_task == {"va": pytest.approx(1), "expr": 1, "au": 1}
    assert score(VGAF, one_hot([1, 1], 3), column([1, 1])).score == 1


def test_mtl_row_counts_if_any_of_its_values_does() -> None:
    labels = np.array([INVALID["mtl"]] * 3, dtype=np.float32)
    labels[1, 14] = 1  # AU26 alone
    found = score(MTL, np.ones((3, 22)), labels)
    assert found.n_frames == 1
    assert found.by_task == {"va": 0, "expr": 0, "au": pytest.approx(1 / 12)}


def test_mtl_answers_stand_in_the_columns_of_labels() -> None:
    outputs = np.array([[0.25, 2.0, *one_hot([5])[0], *[3.0, -3.0] * 6]])
    assert decide(MTL, outputs).tolist() == [[0.25, 1.0, 5.0, *[1.0, 0.0] * 6]]


def test_every_one_of_many_rows_counts() -> None:
    """More rows than are summed at a time, and no whole multiple of that."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 200_003), rng.normal(size=(200_003, 3))
    result = score(VGAF, logits, labels[:, None])
    assert list(result.support.values()) == np.bincount(labels).tolist()
    assert result.score == accuracy_score(labels, logits.argmax(axis=1))


@pytest.mark.parametrize("of_output", ["ccc", "pearson"])
def test_constants_far_from_the_centre_have_no_correlation(of_output: str) -> None:
    """As in a draw of a single video in which nothing changes: what rounding leaves of a variance is not one."""
    task, centres = regression(of_output), np.array([[0.1], [0.4]])
    for n in range(1, 400):
        sums = row_sums(task, np.full((n, 1), 0.3), np.full((n, 1), 0.7), centres)
        assert np.abs(measures_of(task, sums[None])).max() < 1e-12, n


def test_score_is_pooled_not_averaged_over_videos() -> None:
    """Within each video the predictions are constant, CCC 0; over both together they are right."""
    first, second = np.full((5, 2), -0.5), np.full((5, 2), 0.5)
    assert score(VA, first, first).score == 0
    both = np.concatenate([first, second])
    assert score(VA, both, both).score == pytest.approx(1)
