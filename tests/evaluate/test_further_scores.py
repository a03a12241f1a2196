"""Measures of the tasks of 2026 against scikit-learn and scipy, and the average precision by the organisers' rule."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, auc, f1_score, mean_squared_error, precision_score, recall_score

from abaw.core.tasks import TASKS
from abaw.evaluate.scores.further_scores import average_precision, further_scores, score_with_further
from abaw.evaluate.scores.metrics import score

RNG = np.random.default_rng(3)


def test_weighted_f1_and_accuracy_of_mer() -> None:
    outputs, labels = RNG.normal(size=(200, 6)), RNG.integers(0, 5, (200, 1))  # nobody shows the last class
    labels[:20] = -1
    found = score_with_further(TASKS["mer"], outputs, labels)
    actual, answers = labels[20:, 0], outputs[20:].argmax(axis=1)
    assert found.score == pytest.approx(f1_score(actual, answers, average="weighted"), abs=1e-12)
    assert found.also == {"accuracy": pytest.approx(accuracy_score(actual, answers), abs=1e-12)}


def test_mean_pearson_of_emi_and_squared_error_of_engagement() -> None:
    labels = RNG.uniform(size=(90, 6)).astype(np.float32)
    outputs = np.clip(labels + RNG.normal(0, 0.3, labels.shape), 0, 1)
    wanted = np.mean([pearsonr(outputs[:, i], labels[:, i])[0] for i in range(6)])
    assert score(TASKS["emi"], outputs, labels).score == pytest.approx(wanted, abs=1e-6)
    one = score_with_further(TASKS["engagement"], outputs[:, :1], labels[:, :1])
    assert one.score == pytest.approx(-mean_squared_error(labels[:, 0], outputs[:, 0]), abs=1e-7)
    assert one.also["pearson"] == pytest.approx(pearsonr(outputs[:, 0], labels[:, 0])[0], abs=1e-6)
    outside = np.full((2, 1), 7.0)  # answers are within the range
    assert score(TASKS["engagement"], outside, np.array([[1.0], [0.0]])).score == pytest.approx(-0.5)


def test_average_precision_is_that_of_the_organisers() -> None:
    """The area by scikit-learn's `auc` over its precision and recall at each threshold; its own average differs."""
    outputs, labels = RNG.normal(size=(120, 2)).astype(np.float32), RNG.integers(0, 2, (120, 1)).astype(np.int8)
    probabilities = softmax(outputs.astype(np.float64), axis=1)[:, 1]
    points = [
        (
            recall_score(labels[:, 0], probabilities >= threshold),
            precision_score(labels[:, 0], probabilities >= threshold, zero_division=0),
        )
        for threshold in np.arange(0, 1, 0.001)
    ]
    recall, precision = np.array(points).T
    found = further_scores(TASKS["ah"], outputs, labels)
    assert found == {"ap": pytest.approx(auc(recall, precision), abs=1e-9)}


def test_average_precision_by_hand() -> None:
    # at or below .2 both rows are predicted (precision 1/2, recall 1), up to .9 the right one (1, 1), then none (0, 0)
    assert average_precision(np.array([0.9, 0.2]), np.array([True, False])) == pytest.approx(0.5)
    # the positive row is the lower one: precision 1/2 and recall 1 up to .2, then 0 and 0
    assert average_precision(np.array([0.9, 0.2]), np.array([False, True])) == pytest.approx(0.25)
    assert np.isnan(average_precision(np.array([0.5]), np.array([False])))
