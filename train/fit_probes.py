"""Scikit-learn probes: a linear map of single frames, the baseline that every temporal head has to beat."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.train.data.samples import Samples, counted_labels
from abaw.train.head_options import LogisticConfig, RidgeConfig
from abaw.train.heads.linear import LinearHead
from abaw.train.model import Model

NEVER = -30.0  # logit of a class that is missing from the training labels
Solve = Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]


def fit_probe(config: RidgeConfig | LogisticConfig, task: Task, model: Model, samples: Samples, seed: int) -> None:
    """Fit the linear head of a model in place on the labelled frames (or videos) of samples.

    The head standardises its inputs; a missing feature is replaced by its mean.
    """
    head = model.heads[0]
    assert isinstance(head, LinearHead)
    inputs, labels, valid = _examples(head, samples, config.n_rows, seed)
    solve = _ridge(config) if isinstance(config, RidgeConfig) else _logistic(config)
    weight, bias = np.zeros(head.output.weight.shape), np.zeros(head.output.bias.shape)
    if task.kind == "classes":
        bias[:] = NEVER
        counted = valid[:, 0]
        targets = labels[counted, 0].astype(np.int64)
        classes = np.unique(targets)
        if len(classes) == 1:
            bias[classes] = 0
        elif len(classes) > 1:
            coefficients, intercepts = solve(inputs[counted], targets)
            # for two classes scikit-learn has a single logit, their difference
            if len(classes) == 2:
                coefficients, intercepts = (
                    np.stack([-values[0] / 2, values[0] / 2]) for values in (coefficients, intercepts)
                )
            weight[classes], bias[classes] = coefficients, intercepts
    else:
        for column in range(labels.shape[1]):
            counted = valid[:, column]
            targets = labels[counted, column]
            if task.kind == "binary" and len(np.unique(targets)) < 2:
                bias[column] = -NEVER if targets.any() else NEVER
            elif len(targets):
                coefficients, intercepts = solve(inputs[counted], targets)
                weight[column], bias[column] = coefficients.ravel(), np.ravel(intercepts)[0]
    with torch.no_grad():
        head.output.weight.copy_(torch.from_numpy(weight))
        head.output.bias.copy_(torch.from_numpy(bias))


def _examples(head: LinearHead, samples: Samples, n_rows: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Standardised inputs, labels and valid flags of labelled frames; of whole videos, the mean over their frames."""
    if samples.task.level == "video":
        counted = samples.valid.any(axis=1) & samples.present()
        groups = [rows[counted[rows]] for rows in map(np.arange, samples.starts[:-1], samples.starts[1:])]
        groups = [rows for rows in groups if len(rows)]
        rows = np.array([group[0] for group in groups])
        inputs = np.stack([_inputs(head, samples, group).mean(axis=0) for group in groups])
        return inputs, samples.labels[rows], samples.valid[rows]
    rows, labels, valid = counted_labels(samples)
    chosen = np.flatnonzero(valid.any(axis=1))
    if len(chosen) > n_rows:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, n_rows, replace=False))
    return _inputs(head, samples, rows[chosen]), labels[chosen], valid[chosen]


def _inputs(head: LinearHead, samples: Samples, rows: NDArray) -> NDArray[np.float32]:
    features, masks = samples.inputs(rows[None], np.ones((1, len(rows)), dtype=np.bool_))
    assert head.inputs is not None
    return head.inputs({name: values.float() for name, values in features.items()}, masks)[0].numpy()


def _ridge(config: RidgeConfig) -> Solve:
    from sklearn.linear_model import Ridge  # takes a second to import, and only probes need it

    def solve(inputs: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
        ridge = Ridge(alpha=config.alpha * len(inputs)).fit(inputs, labels)
        return ridge.coef_, np.atleast_1d(ridge.intercept_)

    return solve


def _logistic(config: LogisticConfig) -> Solve:
    from sklearn.linear_model import LogisticRegression

    def solve(inputs: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
        model = LogisticRegression(
            C=config.inverse_penalty / len(inputs),
            class_weight="balanced" if config.balanced else None,
            max_iter=config.n_iterations,
        )
        model.fit(inputs, labels)
        return model.coef_, model.intercept_

    return solve
