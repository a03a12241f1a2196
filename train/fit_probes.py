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

ROWS_AT_ONCE = 4096  # rows joined at a time
NEVER = -30.0  # logit of a class that is missing from the training labels
Solve = Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]


def fit_probe(
    config: RidgeConfig | LogisticConfig,
    task: Task,
    model: Model,
    samples: Samples,
    seed: int,
    on_part: Callable[[str], None] = lambda part: None,
) -> None:
    """Fit the linear head of a model in place on the labelled frames (or videos) of samples.

    The head standardises its inputs; a missing feature is replaced by its mean.

    Args:
        on_part: called with what begins, in words.
    """
    on_part("reading rows")
    head = model.heads[0]
    assert isinstance(head, LinearHead)
    inputs, labels, valid = _examples(head, samples, config.n_rows, seed)
    on_part(f"solving for {len(inputs):,} rows")
    solve = _ridge(config) if isinstance(config, RidgeConfig) else _logistic(config)
    weight, bias = np.zeros(head.output.weight.shape), np.zeros(head.output.bias.shape)
    if task.kind == "classes":
        _solve_classes(solve, inputs, labels, valid[:, 0], weight, bias)
    elif task.kind == "binary":
        for column, counted in enumerate(valid.T):
            on_part(f"solving for {task.outputs[column]}")
            targets = labels[counted, column]
            if len(np.unique(targets)) < 2:
                bias[column] = -NEVER if targets.any() else NEVER
            else:
                coefficients, intercepts = solve(_rows_of(inputs, counted), targets)
                weight[column], bias[column] = coefficients.ravel(), np.ravel(intercepts)[0]
    else:
        for columns in _columns_by_rows(valid):
            counted = valid[:, columns[0]]
            if counted.any():
                weight[columns], bias[columns] = solve(_rows_of(inputs, counted), labels[counted][:, columns])
    with torch.no_grad():
        head.output.weight.copy_(torch.from_numpy(weight))
        head.output.bias.copy_(torch.from_numpy(bias))


def _solve_classes(
    solve: Solve, inputs: NDArray, labels: NDArray, counted: NDArray[np.bool_], weight: NDArray, bias: NDArray
) -> None:
    """Fill the weights and biases of the classes that the counted labels have; others never win."""
    bias[:] = NEVER
    targets = labels[counted, 0].astype(np.int64)
    classes = np.unique(targets)
    if len(classes) == 1:
        bias[classes] = 0
    elif len(classes) > 1:
        coefficients, intercepts = solve(_rows_of(inputs, counted), targets)
        # for two classes scikit-learn has a single logit, their difference
        if len(classes) == 2:
            coefficients, intercepts = (
                np.stack([-values[0] / 2, values[0] / 2]) for values in (coefficients, intercepts)
            )
        weight[classes], bias[classes] = coefficients, intercepts


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
    """(rows, width) standardised inputs; only a block of rows is held more than once."""
    assert head.inputs is not None
    inputs = np.empty((len(rows), head.inputs.width), dtype=np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[None, start : start + ROWS_AT_ONCE]
        features, masks = samples.inputs(block, np.ones(block.shape, dtype=np.bool_))
        joined = head.inputs({name: values.float() for name, values in features.items()}, masks)
        inputs[start : start + ROWS_AT_ONCE] = joined[0].numpy()
    return inputs


def _rows_of(inputs: NDArray[np.float32], counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The counted rows; no copy if all are."""
    return inputs if counted.all() else inputs[counted]


def _columns_by_rows(valid: NDArray[np.bool_]) -> list[list[int]]:
    """The columns that are valid in the same rows, together; those that are valid in all rows are last."""
    columns: dict[bytes, list[int]] = {}
    for column, counted in enumerate(valid.T):
        columns.setdefault(counted.tobytes(), []).append(column)
    return sorted(columns.values(), key=lambda group: bool(valid[:, group[0]].all()))


def _ridge(config: RidgeConfig) -> Solve:
    from sklearn.linear_model import Ridge  # takes a second to import, and only probes need it

    def solve(inputs: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
        # centres the inputs in place: they are a copy, or nothing needs them later
        ridge = Ridge(alpha=config.alpha * len(inputs), copy_X=False).fit(inputs, labels)
        return ridge.coef_, ridge.intercept_

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
