"""The losses against torch and the metrics, what masks must not let through, and class weights by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from abaw.errors import UsageError
from abaw.evaluate.metrics import ccc
from abaw.train.losses import (
    LOSSES,
    binary_cross_entropy,
    ccc_loss,
    class_weights,
    cross_entropy,
    get_loss,
    positive_weights,
)

SHAPE = (3, 20)  # windows, frames
ALL = pytest.mark.parametrize("name", sorted(LOSSES))


def case(name: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, labels and validity of a batch, about a third of the labels not valid."""
    draw = torch.Generator().manual_seed(seed)
    if name == "cross-entropy":
        outputs = torch.randn(*SHAPE, 8, generator=draw)
        labels = torch.randint(0, 8, (*SHAPE, 1), generator=draw).float()
    else:
        outputs = torch.randn(*SHAPE, 12 if name == "bce" else 2, generator=draw)
        labels = torch.randn(outputs.shape, generator=draw).clamp(-1, 1)
        labels = (labels > 0).float() if name == "bce" else labels
    return outputs, labels, torch.rand(labels.shape, generator=draw) > 0.35


def loss_and_gradient(name: str, outputs: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    leaf = outputs.clone().requires_grad_()
    loss = LOSSES[name](leaf, labels, valid, None)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


# values


def test_ccc_loss_is_one_minus_the_metric() -> None:
    outputs, labels, valid = case("ccc")
    wanted = [1 - ccc(outputs[..., i][valid[..., i]].numpy(), labels[..., i][valid[..., i]].numpy()) for i in range(2)]
    assert float(ccc_loss(outputs, labels, valid)) == pytest.approx(np.mean(wanted), abs=1e-6)


def test_ccc_loss_by_hand() -> None:
    """Valence: variances 1/4, covariance 1/4, means 1 apart, CCC 1/3. Arousal: CCC 1. Mean loss (2/3 + 0) / 2."""
    outputs = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    labels = torch.tensor([[[1.0, 0.0], [2.0, 1.0]]])
    assert float(ccc_loss(outputs, labels, torch.ones_like(labels).bool())) == pytest.approx(1 / 3, abs=1e-6)


def test_ccc_loss_is_pooled_over_the_batch() -> None:
    """Each window alone is constant, CCC 0; together they are right."""
    values = torch.tensor([-0.5, 0.5])[:, None, None].expand(2, 4, 2)
    assert float(ccc_loss(values, values, torch.ones(2, 4, 2).bool())) == pytest.approx(0, abs=1e-6)


def test_ccc_loss_of_half_precision_outputs_is_taken_in_float32() -> None:
    outputs, labels, valid = case("ccc")
    rounded = outputs.bfloat16()
    wanted = ccc_loss(rounded.float(), labels, valid)
    found = ccc_loss(rounded, labels, valid)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(wanted), abs=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs_on_the_valid_frames(weighted: bool) -> None:
    outputs, labels, valid = case("cross-entropy")
    weights = torch.rand(8) + 0.1 if weighted else None
    kept = valid[..., 0]
    wanted = F.cross_entropy(outputs[kept], labels[kept][:, 0].long(), weight=weights)
    assert float(cross_entropy(outputs, labels, valid, weights)) == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_is_torchs_on_the_valid_values(weighted: bool) -> None:
    outputs, labels, valid = case("bce")
    weights = torch.rand(12) * 5 + 0.1 if weighted else None
    each = F.binary_cross_entropy_with_logits(outputs, labels, pos_weight=weights, reduction="none")
    found = binary_cross_entropy(outputs, labels, valid, weights)
    assert float(found) == pytest.approx(float(each[valid].mean()), abs=1e-6)


# masks


@ALL
@pytest.mark.parametrize("junk", [-5.0, 1e30, -1e30, float("nan"), float("inf")])
def test_what_stands_at_invalid_labels_changes_nothing(name: str, junk: float) -> None:
    outputs, labels, valid = case(name)
    loss, gradient = loss_and_gradient(name, outputs, labels, valid)
    other_loss, other_gradient = loss_and_gradient(name, outputs, torch.where(valid, labels, junk), valid)
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)


@ALL
def test_outputs_at_invalid_labels_change_nothing_and_get_no_gradient(name: str) -> None:
    outputs, labels, valid = case(name)
    loss, gradient = loss_and_gradient(name, outputs, labels, valid)
    moved = torch.where(valid, outputs, outputs + 1000)
    other_loss, other_gradient = loss_and_gradient(name, moved, labels, valid)
    torch.testing.assert_close(other_loss, loss)
    torch.testing.assert_close(other_gradient, gradient)
    assert (gradient[~valid.expand_as(gradient)] == 0).all()
    assert (gradient[valid.expand_as(gradient)] != 0).any()


# finite everywhere


@ALL
def test_no_valid_label_gives_zero_loss_and_gradient(name: str) -> None:
    outputs, labels, valid = case(name)
    loss, gradient = loss_and_gradient(name, outputs, torch.full_like(labels, -5), torch.zeros_like(valid))
    assert loss == 0
    assert (gradient == 0).all()


@ALL
@pytest.mark.parametrize("level", [0.0, 0.3, 40.0])
def test_constant_predictions_have_finite_gradients(name: str, level: float) -> None:
    outputs, labels, valid = case(name)
    loss, gradient = loss_and_gradient(name, torch.full_like(outputs, level), labels, valid)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@ALL
def test_constant_predictions_equal_to_constant_labels_are_finite(name: str) -> None:
    outputs, labels, valid = case(name)
    loss, gradient = loss_and_gradient(name, torch.ones_like(outputs), torch.ones_like(labels), valid)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@ALL
def test_one_valid_frame_is_finite(name: str) -> None:
    outputs, labels, valid = case(name)
    single = torch.zeros_like(valid)
    single[1, 7] = True
    loss, gradient = loss_and_gradient(name, outputs, labels, single)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    others = torch.ones(SHAPE).bool()
    others[1, 7] = False
    assert (gradient[others] == 0).all()


def test_output_without_a_valid_value_leaves_the_other_alone() -> None:
    """Arousal is not annotated at all: half of valence's loss remains, as an output without labels counts 0."""
    outputs, labels, valid = case("ccc")
    valid[..., 1] = False
    _, gradient = loss_and_gradient("ccc", outputs, labels, valid)
    kept = valid[..., 0]
    wanted = (1 - ccc(outputs[..., 0][kept].numpy(), labels[..., 0][kept].numpy())) / 2
    assert float(ccc_loss(outputs, labels, valid)) == pytest.approx(wanted, abs=1e-6)
    assert (gradient[..., 1] == 0).all()


@pytest.mark.parametrize("loss", [ccc_loss, binary_cross_entropy, cross_entropy])
def test_a_step_against_the_gradient_lowers_the_loss(loss: Callable[..., Tensor]) -> None:
    name = next(name for name, found in LOSSES.items() if found is loss)
    outputs, labels, valid = case(name)
    before, gradient = loss_and_gradient(name, outputs, labels, valid)
    assert loss(outputs - 0.1 * gradient, labels, valid) < before


# weights


def test_positive_weights_by_hand() -> None:
    labels = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [0, -1, 0, 0], [0, -1, 0, 0], [1, 0, 0, 0]]).float()
    # 3 negatives to 2 positives; 1 to 2, as two are not valid; no positive at all; 4 to 1
    found = positive_weights(labels, labels != -1)
    assert found.tolist() == pytest.approx([3 / 2, 1 / 2, 1, 4])


def test_positive_weights_leave_out_invalid_values() -> None:
    labels = torch.tensor([[1.0], [1.0], [0.0]])
    valid = torch.tensor([[True], [False], [True]])
    assert positive_weights(labels, valid).tolist() == [1.0]


def test_positive_weights_are_bounded() -> None:
    rare, frequent = torch.zeros(1000, 1), torch.ones(1000, 1)
    rare[0], frequent[0] = 1, 0
    all_valid = torch.ones(1000, 1).bool()
    assert positive_weights(rare, all_valid).tolist() == [50.0]
    assert positive_weights(frequent, all_valid).tolist() == pytest.approx([1 / 50])
    assert positive_weights(torch.ones(5, 1), torch.ones(5, 1).bool()).tolist() == pytest.approx([1 / 50])


def test_class_weights_by_hand() -> None:
    """Counts 4, 1, 1 of three classes: inverse frequencies stand 1 : 4 : 4, mean 1 over those that occur."""
    labels = torch.tensor([0, 0, 0, 0, 1, 2, -1, -1]).float()[:, None]
    found = class_weights(labels, labels >= 0, 8)
    assert found.tolist() == pytest.approx([1 / 3, 4 / 3, 4 / 3, 0, 0, 0, 0, 0])


def test_class_weights_of_equal_counts_are_one() -> None:
    labels = torch.arange(8).repeat(3).float()[:, None]
    assert class_weights(labels, torch.ones_like(labels).bool(), 8).tolist() == pytest.approx([1] * 8)


def test_class_weights_without_labels_are_finite() -> None:
    labels = torch.full((4, 1), -1.0)
    assert class_weights(labels, labels >= 0, 8).tolist() == [0] * 8


# names


def test_loss_of_another_kind_of_task_names_the_fitting_ones() -> None:
    with pytest.raises(UsageError, match=r"'bce' does not fit.*Choose one of: ccc\."):
        get_loss("bce", "regression")
    with pytest.raises(UsageError, match=r"'focal' does not fit.*cross-entropy"):
        get_loss("focal", "classes")
