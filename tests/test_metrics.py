"""The official measures against recorded outputs, scikit-learn, closed formulas and cases worked by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from abaw.evaluate.metrics import ccc, decide, score
from abaw.tasks import ACTION_UNITS, EXPRESSIONS, TASKS

VA, EXPR, AU = TASKS["va"], TASKS["expr"], TASKS["au"]
REFERENCE = np.load(Path(__file__).parent / "data" / "reference" / "losses.npz")

pairs = st.lists(
    st.tuples(st.floats(-1, 1, allow_subnormal=False), st.floats(-1, 1, allow_subnormal=False)),
    min_size=2,
    max_size=60,
)


def one_hot(classes: list[int]) -> np.ndarray:
    """Logits whose largest is the given class."""
    return np.eye(8, dtype=np.float32)[classes]


def column(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


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


@pytest.mark.parametrize("name", ["va", "expr", "au"])
def test_no_valid_label_scores_0(name: str) -> None:
    task = TASKS[name]
    n_columns, n_outputs = len(task.columns), len(task.outputs)
    for n in (0, 3):
        found = score(task, np.ones((n, n_outputs)), np.full((n, n_columns), task.invalid, dtype=np.float32))
        assert found.score == 0
        assert found.n_frames == 0
        assert set(found.support.values()) == {0}


def test_score_is_pooled_not_averaged_over_videos() -> None:
    """Within each video the predictions are constant, CCC 0; over both together they are right."""
    first, second = np.full((5, 2), -0.5), np.full((5, 2), 0.5)
    assert score(VA, first, first).score == 0
    both = np.concatenate([first, second])
    assert score(VA, both, both).score == pytest.approx(1)
