"""The losses against recorded values, torch and closed formulas; what masks must not let through; weights by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, multivariate_normal
from sklearn.metrics import mean_squared_error
from torch import Tensor

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS, Task
from abaw.tests.support.paths import DATA
from abaw.train.loss_options import (
    LOSSES,
    AnyLossConfig,
    BceConfig,
    CccBinsConfig,
    CccConfig,
    CccMseConfig,
    CotexConfig,
    CrossEntropyConfig,
    EmmaLossConfig,
    FocalConfig,
    LossConfig,
    MseConfig,
    VNawConfig,
    Weights,
)
from abaw.train.losses import Loss, create_loss, n_bins
from abaw.train.losses.class_weights import class_weights, positive_weights
from abaw.train.losses.regression import expectation

VA, EXPR, AU, MTL = (TASKS[name] for name in ("va", "expr", "au", "mtl"))
OF_KIND = {"regression": VA, "classes": EXPR, "binary": AU, "multi": MTL}
REFERENCE = np.load(DATA / "reference" / "losses.npz", allow_pickle=False)
# the positive weights that EMMA was trained with, negatives / positives of the MTL training labels
EMMA_WEIGHTS = (
    *(7.1008924, 15.63964869, 5.47108051, 2.80360066, 1.5152332, 1.89083564),
    *(3.04637044, 34.04600245, 32.47861156, 36.76637801, 0.58118674, 11.1586486),
)
CONFIGS: TypeAdapter[LossConfig] = TypeAdapter(AnyLossConfig)
SHAPE = (3, 20)  # windows, frames
ALL = pytest.mark.parametrize("name", sorted({*LOSSES, "focal of au"}))  # focal has a form of its own for binary labels
VIEWS = pytest.mark.parametrize("n_views", [0, 2], ids=lambda n: f"{n} views" if n else "no axis of views")
Case = tuple[Tensor, Tensor, Tensor]


def options(name: str) -> LossConfig:
    """A loss's options as they are by default."""
    return CONFIGS.validate_python({"name": name.partition(" of ")[0]})


def task_for(name: str) -> Task:
    """The task that a loss is tried on: the one named, or the first kind that it fits."""
    loss, _, task = name.partition(" of ")
    return TASKS[task] if task else OF_KIND[LOSSES[loss].kinds[0]]


def reference(name: str) -> Tensor:
    return torch.from_numpy(REFERENCE[name])


def draw_labels(task: Task, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """(*shape, columns) legal labels of a task."""
    drawn = []
    for part, _, _ in task.each():
        columns = (*shape, len(part.columns))
        if part.kind == "regression":
            drawn.append(torch.randn(columns, generator=draw).clamp(-1, 1))
        else:
            drawn.append(torch.randint(0, int(part.high) + 1, columns, generator=draw).float())
    return torch.cat(drawn, dim=-1)


def case(name: str, n_views: int = 0, shape: tuple[int, ...] = SHAPE) -> Case:
    """Outputs, labels and validity of a batch, about a third of the labels not valid."""
    draw, task = torch.Generator().manual_seed(0), task_for(name)
    labels = draw_labels(task, shape, draw)
    n_outputs = len(task.outputs) + len(task.columns) * n_bins(options(name))
    outputs = torch.randn(*(n_views,) * (n_views > 0), *shape, n_outputs, generator=draw)
    return outputs, labels, torch.rand(labels.shape, generator=draw) > 0.35


def build(config: LossConfig, task: Task | None = None) -> Loss:
    """A loss whose weights come from 200 labels of the task."""
    task = task or task_for(config.name)
    labels = draw_labels(task, (200,), torch.Generator().manual_seed(1)).numpy()
    return create_loss(config, task, labels, np.ones(labels.shape, dtype=bool))


def default(name: str) -> Loss:
    return build(options(name), task_for(name))


def ccc(x: NDArray, y: NDArray) -> float:
    """Lin's coefficient in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return float(2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def value(loss: Loss, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float = 0.5) -> float:
    return float(loss(outputs, labels, valid, progress))


def loss_and_gradient(name: str, outputs: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    leaf = outputs.clone().requires_grad_()
    loss = default(name)(leaf, labels, valid, 0.5)
    assert loss.shape == ()
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def hidden_outputs(name: str, outputs: Tensor, valid: Tensor) -> Tensor:
    """True at the outputs that belong to a label that is not valid."""
    hidden = [~valid[..., columns] for _, _, columns in task_for(name).each()]
    widths = [own.stop - own.start for _, own, _ in task_for(name).each()]
    each = torch.cat([mask.expand(*mask.shape[:-1], width) for mask, width in zip(hidden, widths, strict=True)], dim=-1)
    bins = n_bins(options(name))
    each = torch.cat([each, each.repeat_interleave(bins, dim=-1)], dim=-1)
    return each.expand_as(outputs)


# recorded values of the published systems


def test_ccc_agrees_with_the_reference() -> None:
    """The recorded losses are of the unbiased variant."""
    predicted, labels = reference("va_pred"), reference("va_labels")
    loss = build(CccConfig(moments="unbiased"))
    for column, name in enumerate(("valence", "arousal")):
        only = torch.zeros_like(labels, dtype=torch.bool)
        only[:, column] = labels[:, column] != -5
        # a column without a label counts as 0 in the mean over two
        assert 2 * value(loss, predicted, labels, only) == pytest.approx(float(REFERENCE[f"ccc_loss_{name}"]), abs=3e-7)


def test_population_ccc_agrees_with_the_recorded_measure() -> None:
    predicted, labels = reference("va_pred"), reference("va_labels")
    found = value(build(CccConfig()), predicted, labels, labels != -5)
    assert found == pytest.approx(1 - REFERENCE["metric_ccc"].mean(), abs=1e-6)


@pytest.mark.parametrize("epoch", [0, 10, 49])
def test_v_naw_agrees_with_the_reference(epoch: int) -> None:
    """Recorded is the weighted cross-entropy of the first view."""
    views = torch.stack([reference("expr_logits"), reference("expr_logits_flipped")])
    labels = reference("expr_labels").float()[:, None]
    loss = build(VNawConfig(plain=0, weighted=1, consistency=0))
    found = value(loss, views, labels, labels >= 0, epoch / 50)
    assert found == pytest.approx(float(REFERENCE[f"naw_epoch{epoch}_of_50"]), abs=1e-6)


def test_cotex_agrees_with_the_reference() -> None:
    """Recorded is the divergence over all frames, labelled or not."""
    views = torch.stack([reference("expr_logits"), reference("expr_logits_flipped")])
    labels = reference("cotex_labels").float()[:, None]
    total, none, one = (
        value(build(CotexConfig(consistency=factor, unlabelled=True)), views, labels, labels >= 0)
        for factor in (100, 0, 1)
    )
    assert total == pytest.approx(float(REFERENCE["cotex_total"]), rel=1e-6)
    assert one - none == pytest.approx(float(REFERENCE["cotex_jsd"]), abs=1e-6)


def test_emma_agrees_with_the_reference() -> None:
    expressions = reference("cotex_labels").float()[:, None]
    outputs = torch.cat([reference("va_pred"), reference("expr_logits"), reference("au_logits")], dim=1)
    labels = torch.cat([reference("va_labels"), expressions, reference("au_labels")], dim=1)
    valid = torch.from_numpy(MTL.valid(labels.numpy()))
    for factor in ("va", "expr", "au"):
        only = EmmaLossConfig(**{"va": 0, "expr": 0, "au": 0} | {factor: 1}, positive_weights=EMMA_WEIGHTS)
        found = value(build(only), outputs, labels, valid)
        assert found == pytest.approx(float(REFERENCE[f"emma_loss_{factor}"]), rel=1e-6)
    wanted = sum(float(REFERENCE[f"emma_loss_{part}"]) for part in ("va", "expr", "au"))
    whole = value(build(EmmaLossConfig(positive_weights=EMMA_WEIGHTS)), outputs, labels, valid)
    assert whole == pytest.approx(wanted, rel=1e-6)
    assert REFERENCE["emma_au_loss"] == REFERENCE["emma_loss_au"]


# values: regression


def test_ccc_loss_is_one_minus_ccc() -> None:
    outputs, labels, valid = case("ccc")
    wanted = [1 - ccc(outputs[..., i][valid[..., i]].numpy(), labels[..., i][valid[..., i]].numpy()) for i in range(2)]
    assert value(default("ccc"), outputs, labels, valid) == pytest.approx(np.mean(wanted), abs=1e-6)


def test_ccc_loss_by_hand() -> None:
    """Valence: variances 1/4, covariance 1/4, means 1 apart, CCC 1/3. Arousal: CCC 1. Mean loss (2/3 + 0) / 2."""
    outputs = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    labels = torch.tensor([[[1.0, 0.0], [2.0, 1.0]]])
    valid = torch.ones_like(labels).bool()
    assert value(default("ccc"), outputs, labels, valid) == pytest.approx(1 / 3, abs=1e-6)


def test_unbiased_ccc_loss_by_hand() -> None:
    """Valence as above, but divided by 1 instead of 2: 2 * 1/2 / (1/2 + 1/2 + 1), CCC 1/2; up to the added 1e-4."""
    outputs = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    labels = torch.tensor([[[1.0, 0.0], [2.0, 1.0]]])
    found = value(build(CccConfig(moments="unbiased")), outputs, labels, torch.ones_like(labels).bool())
    assert found == pytest.approx((1 / 2 + 0) / 2, abs=3e-4)


def test_ccc_loss_is_pooled_over_the_batch() -> None:
    """Each window alone is constant, CCC 0; together they are right."""
    values = torch.tensor([-0.5, 0.5])[:, None, None].expand(2, 4, 2)
    assert value(default("ccc"), values, values, torch.ones(2, 4, 2).bool()) == pytest.approx(0, abs=1e-6)


@ALL
def test_half_precision_outputs_are_taken_in_float32(name: str) -> None:
    outputs, labels, valid = case(name)
    rounded = outputs.bfloat16()
    found = default(name)(rounded, labels, valid, 0.5)
    assert found.dtype == torch.float32
    assert float(found) == value(default(name), rounded.float(), labels, valid)


def test_output_without_a_valid_value_leaves_the_other_alone() -> None:
    """Arousal is not annotated at all: half of valence's loss remains, as an output without labels counts 0."""
    outputs, labels, valid = case("ccc")
    valid[..., 1] = False
    loss, gradient = loss_and_gradient("ccc", outputs, labels, valid)
    kept = valid[..., 0]
    wanted = (1 - ccc(outputs[..., 0][kept].numpy(), labels[..., 0][kept].numpy())) / 2
    assert float(loss) == pytest.approx(wanted, abs=1e-6)
    assert (gradient[..., 1] == 0).all()


def test_expectation_over_bins_by_hand() -> None:
    """Five bins at -1, -.5, 0, .5, 1."""
    even, last = torch.zeros(5), torch.tensor([0.0, 0, 0, 0, 100])
    half = torch.log(torch.tensor([1e-30, 1, 1e-30, 3, 1e-30]))  # -.5 * 1/4 + .5 * 3/4
    found = expectation(torch.stack([even, last, half])[:, None], 5)
    assert found.shape == (3, 1)
    assert found.flatten().tolist() == pytest.approx([0, 1, 0.25], abs=1e-6)


def test_ccc_bins_joins_ccc_and_torchs_cross_entropy_of_the_nearest_bin() -> None:
    outputs, labels, valid = case("ccc-bins")
    points, concordance, entropies = np.linspace(-1, 1, 20), [], []
    for column in range(2):
        kept = valid[..., column]
        target = labels[..., column][kept].numpy()
        concordance.append(1 - ccc(outputs[..., column][kept].numpy(), target))
        logits = outputs[..., 2 + 20 * column : 22 + 20 * column][kept]
        nearest = np.abs(target[:, None] - points).argmin(axis=1)
        entropies.append(F.cross_entropy(logits, torch.from_numpy(nearest), reduction="none"))
    for ccc_factor, ce_factor in ((0.5, 0.5), (1, 0), (0, 1)):
        loss = build(CccBinsConfig(ccc=ccc_factor, ce=ce_factor))
        wanted = ccc_factor * np.mean(concordance) + ce_factor * float(torch.cat(entropies).mean())
        assert value(loss, outputs, labels, valid) == pytest.approx(wanted, abs=1e-6)


def test_intervals_are_those_of_numpys_digitize() -> None:
    """Of equal intervals from -1 to 1; the upper end is in the last one. The expectations are as with nearest points."""
    labels = torch.tensor([-1, -0.95, -0.9, -0.05, 0, 0.05, 0.91, 1.0]).repeat_interleave(2).view(8, 2)
    numbers = np.clip(np.digitize(labels[:, 0].numpy(), np.linspace(-1, 1, 22 + 1)) - 1, 0, 21)
    assert numbers.tolist() == [0, 0, 1, 10, 11, 11, 21, 21]
    outputs = torch.randn(8, 2 + 2 * 22, generator=torch.Generator().manual_seed(0))
    loss = build(CccBinsConfig(bins=22, assign="interval", ccc=0, ce=1))
    logits = outputs[:, 2:].view(8, 2, 22).transpose(1, 2)
    expected = F.cross_entropy(logits, torch.from_numpy(numbers)[:, None].expand(8, 2))
    assert value(loss, outputs, labels, torch.ones(8, 2).bool()) == pytest.approx(float(expected), rel=1e-6)
    valid = torch.ones(8, 2).bool()
    near, inside = (build(CccBinsConfig(bins=22, assign=assign, ce=0)) for assign in ("nearest", "interval"))
    assert value(near, outputs, labels, valid) == value(inside, outputs, labels, valid)


def test_mse_is_the_mean_over_outputs_of_sklearns() -> None:
    outputs, labels, valid = case("mse")
    errors = [mean_squared_error(labels[..., i][valid[..., i]], outputs[..., i][valid[..., i]]) for i in range(2)]
    assert value(default("mse"), outputs, labels, valid) == pytest.approx(np.mean(errors), rel=1e-6)
    assert value(build(MseConfig(shares=(1, 3))), outputs, labels, valid) == pytest.approx(
        (errors[0] + 3 * errors[1]) / 4, rel=1e-6
    )


def test_ccc_mse_is_the_sum_of_both() -> None:
    outputs, labels, valid = case("ccc-mse")
    for shares in ((), (1.0, 0.5)):
        ccc_loss, mse = (
            value(build(one), outputs, labels, valid) for one in (CccConfig(shares=shares), MseConfig(shares=shares))
        )
        both = build(CccMseConfig(shares=shares, ccc=0.5, mse=2))
        assert value(both, outputs, labels, valid) == pytest.approx(0.5 * ccc_loss + 2 * mse, rel=1e-6)


@pytest.mark.parametrize("name", ["ccc", "mse", "ccc-mse", "ccc-bins"])
def test_shares_weigh_the_outputs(name: str) -> None:
    """A share of 0 leaves an output out: its gradient is zero. Others are weights of a mean."""
    outputs, labels, valid = case(name)
    more = {"ce": 0} if name == "ccc-bins" else {}
    valence, arousal, mixed = (
        build(CONFIGS.validate_python({"name": name, "shares": shares, **more})) for shares in ("1,0", "0,2", "1,3")
    )
    each = [value(loss, outputs, labels, valid) for loss in (valence, arousal)]
    assert value(mixed, outputs, labels, valid) == pytest.approx((each[0] + 3 * each[1]) / 4, rel=1e-5)
    leaf = outputs.clone().requires_grad_()
    gradient = torch.autograd.grad(valence(leaf, labels, valid, 0), leaf)[0]
    assert gradient[..., 0].any() and not gradient[..., 1].any()


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 2.0, 3.0), (0.0, 0.0)])
def test_shares_have_a_number_for_each_output(shares: tuple[float, ...]) -> None:
    with pytest.raises(
        UsageError, match=r"a number for each output of task va \(valence, arousal\), one of them above 0"
    ):
        build(CccConfig(shares=shares))


def test_only_ccc_bins_wants_bins() -> None:
    assert {name for name in LOSSES if n_bins(options(name))} == {"ccc-bins"}
    assert n_bins(CccBinsConfig(bins=11)) == 11


# values: classes and binary labels


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs_on_the_valid_frames(weighted: bool) -> None:
    outputs, labels, valid = case("cross-entropy")
    weights = torch.linspace(0.1, 2, 8)
    config = CrossEntropyConfig(weights=tuple(weights.tolist())) if weighted else CrossEntropyConfig()
    kept = valid[..., 0]
    wanted = F.cross_entropy(outputs[kept], labels[kept][:, 0].long(), weight=weights if weighted else None)
    assert value(build(config), outputs, labels, valid) == pytest.approx(float(wanted), abs=1e-6)


def test_focal_by_hand() -> None:
    """Two classes: p of the label 1/4 and 1/2; (3/4)^2 log 4 and (1/2)^2 log 2, weighed 1 to 3."""
    two = Task("two", "classes", ("no", "yes"), ("label",), -1, 0, 1, "focal", EXPR.measure)
    outputs, labels = torch.tensor([[0, math.log(3)], [0, 0]]), torch.tensor([[0.0], [1.0]])
    valid = torch.ones_like(labels).bool()
    first, second = 9 / 16 * math.log(4), 1 / 4 * math.log(2)
    assert value(build(FocalConfig(), two), outputs, labels, valid) == pytest.approx((first + second) / 2)
    weighted = build(FocalConfig(weights=(1, 3)), two)
    assert value(weighted, outputs, labels, valid) == pytest.approx((first + 3 * second) / 4)


def test_alpha_of_the_focal_loss_by_hand() -> None:
    """A factor for classes; for binary labels alpha where they are positive and 1 - alpha where they are not."""
    found = value(build(FocalConfig(alpha=0.25)), *case("focal"))
    assert found == pytest.approx(0.25 * value(build(FocalConfig()), *case("focal")), rel=1e-6)
    outputs, labels = torch.tensor([[math.log(3), math.log(3)]]), torch.tensor([[1.0, 0.0]])
    loss = build(FocalConfig(alpha=0.25), task_of(2))
    expected = (0.25 * 1 / 16 * math.log(4 / 3) + 0.75 * 9 / 16 * math.log(4)) / 2
    assert value(loss, outputs, labels, torch.ones(1, 2).bool()) == pytest.approx(expected, rel=1e-6)


def test_focal_without_gamma_is_the_cross_entropy() -> None:
    found = value(build(FocalConfig(gamma=0, weights="inverse")), *case("focal"))
    assert found == pytest.approx(value(build(CrossEntropyConfig(weights="inverse")), *case("focal")))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_of_a_certain_frame_has_a_finite_gradient(gamma: float) -> None:
    outputs = torch.tensor([[200.0, *[0.0] * 7]], requires_grad=True)
    build(FocalConfig(gamma=gamma))(outputs, torch.zeros(1, 1), torch.ones(1, 1).bool(), 0).backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_is_torchs_on_the_valid_values(weighted: bool) -> None:
    outputs, labels, valid = case("bce")
    weights = torch.linspace(0.1, 5, 12)
    config = BceConfig(weights=tuple(weights.tolist())) if weighted else BceConfig(weights="equal")
    each = F.binary_cross_entropy_with_logits(
        outputs, labels, pos_weight=weights if weighted else None, reduction="none"
    )
    assert value(build(config), outputs, labels, valid) == pytest.approx(float(each[valid].mean()), abs=1e-6)


def test_binary_focal_by_hand() -> None:
    """Logits log 3, log 3 and 0: p of the labels 1, 0 and 1 is 3/4, 1/4 and 1/2; the fourth value is not valid."""
    outputs = torch.tensor([[math.log(3), math.log(3)], [0.0, 7.0]])
    labels, valid = torch.tensor([[1.0, 0.0], [1.0, -1.0]]), torch.tensor([[True, True], [True, False]])
    first, second, third = (1 / 16 * math.log(4 / 3), 9 / 16 * math.log(4), 1 / 4 * math.log(2))
    found = value(build(FocalConfig(), task_of(2)), outputs, labels, valid)
    assert found == pytest.approx((first + second + third) / 3)
    # weights are of the positive labels alone
    weighted = value(build(FocalConfig(weights=(2, 5)), task_of(2)), outputs, labels, valid)
    assert weighted == pytest.approx((2 * first + second + 2 * third) / 3)
    cubed = value(build(FocalConfig(gamma=3), task_of(2)), outputs, labels, valid)
    assert cubed == pytest.approx((first / 4 + second * 3 / 4 + third / 2) / 3)


@pytest.mark.parametrize("weights", ["equal", "inverse", tuple(range(1, 13))])
def test_binary_focal_without_gamma_is_the_binary_cross_entropy(weights: Weights) -> None:
    outputs, labels, valid = case("focal of au", n_views=2)
    found = value(build(FocalConfig(gamma=0, weights=weights), AU), outputs, labels, valid)
    wanted = value(build(BceConfig(weights=weights)), outputs, labels, valid)
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_binary_focal_of_a_certain_value_has_a_finite_gradient(gamma: float, label: float) -> None:
    outputs = torch.tensor([[200.0, -200.0, 0.0, 30.0]], requires_grad=True)
    labels = torch.full((1, 4), label)
    build(FocalConfig(gamma=gamma), task_of(4))(outputs, labels, torch.ones(1, 4).bool(), 0).backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


# values: views


def test_v_naw_is_its_three_parts() -> None:
    """The weights by scipy's normal density over its peak, the divergence by scipy's distance squared."""
    outputs, labels, valid = case("v-naw", n_views=2)
    kept, e = valid[..., 0], 1 - math.exp(-15 * 0.1)
    chances, target = outputs.double().softmax(-1)[:, kept].numpy(), labels[kept][:, 0].long().numpy()
    entropies, noise = [], []
    for row, label in zip(chances[0], target, strict=True):
        of_label, of_other = row[label], np.delete(row, label).max()
        if of_label > of_other:
            density = multivariate_normal([0.5, 0.5], [[0.75, -0.5 * e], [-0.5 * e, 0.75]])
        else:
            density = multivariate_normal([0.3, 0.15], [[0.85, 0.8], [0.8, 0.85]])
        noise.append(density.pdf([of_label, of_other]) / density.pdf(density.mean))
        entropies.append(-math.log(of_label))
    apart = np.mean(jensenshannon(chances[0], chances[1], axis=1) ** 2)
    plain, weighted = np.mean(entropies), np.mean(np.multiply(noise, entropies))
    found = value(default("v-naw"), outputs, labels, valid, 0.1)
    assert found == pytest.approx(0.5 * plain + 0.5 * weighted + 0.4 * apart, abs=1e-6)
    alone = value(default("v-naw"), outputs[0], labels, valid, 0.1)
    assert alone == pytest.approx(0.5 * plain + 0.5 * weighted, abs=1e-6)


def test_v_naw_without_noise_weights_is_the_weighted_cross_entropy() -> None:
    outputs, labels, valid = case("v-naw")
    found = value(build(VNawConfig(plain=1, weighted=0, weights="inverse")), outputs, labels, valid)
    assert found == pytest.approx(value(build(CrossEntropyConfig(weights="inverse")), outputs, labels, valid))


def test_no_gradient_goes_through_the_noise_weights() -> None:
    """Of one frame the gradient of w CE is w times that of CE, (p - one hot), and w is the loss over CE."""
    outputs = torch.tensor([[0.3, 0.1, -0.2, 0, 0, 0, 0, 0.5]], dtype=torch.float64, requires_grad=True)
    label, valid = torch.tensor([[2.0]]), torch.ones(1, 1).bool()
    loss = build(VNawConfig(plain=0, weighted=1))(outputs, label, valid, 0.5)
    loss.backward()
    chances = outputs.detach().softmax(-1)
    weight = loss.detach() / -chances[0, 2].log()
    assert 0 < weight < 1
    torch.testing.assert_close(outputs.grad, weight * (chances - F.one_hot(torch.tensor([2]), 8)))


@pytest.mark.parametrize("n_views", [2, 3])
def test_summed_divergence_by_hand_leaves_out_invalid_frames(n_views: int) -> None:
    outputs, labels, valid = case("v-naw", n_views=n_views)
    views = outputs.double()[:, valid[..., 0]].numpy()
    mean = np.exp(views.mean(axis=0))
    mean /= mean.sum(axis=-1, keepdims=True)
    expected = np.mean([entropy(mean, np.exp(view), axis=-1).sum() for view in views])
    outputs[:, ~valid[..., 0]] = float("nan")
    loss = build(VNawConfig(plain=0, weighted=0, consistency=1, divergence="logit-sum"))
    assert value(loss, outputs, labels, valid) == pytest.approx(expected, rel=1e-5)


def test_cotex_of_three_views_is_mean_cross_entropy_and_divergence() -> None:
    outputs, labels, valid = case("cotex", n_views=3)
    kept = valid[..., 0]
    chances = outputs.double().softmax(-1)[:, kept].numpy()
    entropies = [F.cross_entropy(view[kept], labels[kept][:, 0].long()) for view in outputs]
    mean = chances.mean(axis=0)
    # entropy of the mean less the mean of the entropies, the other form of the divergence
    apart = -(mean * np.log(mean)).sum(-1) + (chances * np.log(chances)).sum(-1).mean(axis=0)
    wanted = float(torch.stack(entropies).mean()) + 100 * apart.mean() / 8
    assert value(default("cotex"), outputs, labels, valid) == pytest.approx(wanted, rel=1e-5)


def test_views_that_agree_cost_their_cross_entropy_alone() -> None:
    outputs, labels, valid = case("cotex")
    wanted = value(default("cross-entropy"), outputs, labels, valid)
    assert value(default("cotex"), outputs.expand(3, *outputs.shape), labels, valid) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    "name", sorted({"ccc", "ccc-bins", "ccc-mse", "mse", "cross-entropy", "focal", "focal of au", "bce", "emma"})
)
def test_losses_without_a_notion_of_views_take_them_as_further_windows(name: str) -> None:
    outputs, labels, valid = case(name, n_views=2)
    found = value(default(name), outputs, labels, valid)
    wanted = value(default(name), outputs.flatten(0, 1), torch.cat([labels, labels]), torch.cat([valid, valid]))
    assert found == pytest.approx(wanted, rel=1e-6)


@ALL
def test_rows_of_whole_videos_are_rows_like_any_other(name: str) -> None:
    outputs, labels, valid = case(name, n_views=2)
    found = value(default(name), outputs.flatten(1, 2), labels.flatten(0, 1), valid.flatten(0, 1))
    assert found == value(default(name), outputs, labels, valid)


# masks


@ALL
@VIEWS
@pytest.mark.parametrize("junk", [-5.0, float("nan")])
def test_what_stands_at_invalid_labels_changes_nothing(name: str, n_views: int, junk: float) -> None:
    outputs, labels, valid = case(name, n_views)
    loss, gradient = loss_and_gradient(name, outputs, labels, valid)
    other_loss, other_gradient = loss_and_gradient(name, outputs, torch.where(valid, labels, junk), valid)
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)


@ALL
@VIEWS
@pytest.mark.parametrize("junk", [1000.0, float("nan")])
def test_outputs_at_invalid_labels_change_nothing_and_get_no_gradient(name: str, n_views: int, junk: float) -> None:
    outputs, labels, valid = case(name, n_views)
    hidden = hidden_outputs(name, outputs, valid)
    loss, gradient = loss_and_gradient(name, outputs, labels, valid)
    other_loss, other_gradient = loss_and_gradient(name, outputs.masked_fill(hidden, junk), labels, valid)
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).any()


# weights of frames

WEIGHED = pytest.mark.parametrize("name", sorted({*(n for n in LOSSES if LOSSES[n].weighs_frames), "focal of au"}))


@WEIGHED
def test_equal_weights_change_nothing(name: str) -> None:
    outputs, labels, valid = case(name, n_views=2)
    plain = default(name)(outputs, labels, valid, 0.5)
    assert torch.equal(default(name)(outputs, labels, valid, 0.5, torch.ones(SHAPE)), plain)
    if name != "emma":  # of which one part is divided by the number of frames
        twice = default(name)(outputs, labels, valid, 0.5, torch.full(SHAPE, 2.0))
        assert float(twice) == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in WEIGHED.args[1] if name != "emma"])
def test_a_frame_of_weight_n_counts_as_n_frames(name: str) -> None:
    """Not of emma, whose variances are unbiased."""
    outputs, labels, valid = case(name, n_views=2)
    weights = torch.randint(0, 4, SHAPE, generator=torch.Generator().manual_seed(2))
    loss = default(name)(outputs, labels, valid, 0.5, weights.float())
    counts = weights.flatten()
    repeated = [rows.flatten(-3, -2).repeat_interleave(counts, dim=-2) for rows in (outputs, labels, valid)]
    assert float(loss) == pytest.approx(value(default(name), *repeated), rel=1e-5)


def test_weighted_ccc_is_numpys() -> None:
    """Unbiased moments with the variance of weights that say how reliable a row is, as in `numpy.cov`."""
    outputs, labels, valid = case("ccc")
    weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)) * 2
    for moments, ddof, epsilon in (("population", 0, 0.0), ("unbiased", 1, 1e-4)):
        wanted = 0.0
        for column in range(2):
            shown = valid[..., column]
            x, y, w = (
                values[shown].double().numpy() for values in (outputs[..., column], labels[..., column], weights)
            )
            (var_x, cov), (_, var_y) = np.cov(x, y, aweights=w, ddof=ddof)
            if epsilon:  # as in the authors' code, see `concordance_losses`
                norm = math.sqrt(np.cov(x, aweights=w, ddof=0) * np.cov(y, aweights=w, ddof=0)) * w.sum()
                cov *= norm / (norm + epsilon)
            distance = (np.average(x, weights=w) - np.average(y, weights=w)) ** 2
            wanted += (1 - 2 * cov / (var_x + var_y + distance + epsilon)) / 2
        loss = build(CccConfig(moments=moments))  # type: ignore[arg-type]
        assert float(loss(outputs, labels, valid, 0.5, weights)) == pytest.approx(wanted, rel=1e-5)


def test_weighted_emma_is_the_sum_of_its_weighted_parts() -> None:
    outputs, labels, valid = case("emma")
    weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(4)) + 0.5
    va = build(CccConfig(moments="unbiased"))(outputs[..., :2], labels[..., :2], valid[..., :2], 0.5, weights)
    expr = build(CrossEntropyConfig())(outputs[..., 2:10], labels[..., 2:3], valid[..., 2:3], 0.5, weights)
    logits, units, shown = outputs[..., 10:], labels[..., 3:], valid[..., 3:]
    entropies = F.binary_cross_entropy_with_logits(logits, units, reduction="none") * shown * weights[..., None]
    loss = build(EmmaLossConfig(positive_weights="equal"))(outputs, labels, valid, 0.5, weights)
    wanted = 2 * va + expr + entropies.sum() / weights.numel()
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


def test_frames_of_weight_zero_get_no_gradient() -> None:
    for name in ("ccc", "ccc-bins", "cross-entropy", "bce"):
        outputs, labels, valid = case(name)
        leaf, weights = outputs.clone().requires_grad_(), torch.ones(SHAPE)
        weights[1] = 0
        default(name)(leaf, labels, valid, 0.5, weights).backward()
        assert leaf.grad is not None and (leaf.grad[1] == 0).all() and (leaf.grad[0] != 0).any()
        assert default(name)(outputs, labels, valid, 0.5, torch.zeros(SHAPE)) == 0


def test_cotex_asks_unlabelled_frames_to_agree_if_told_to() -> None:
    outputs, labels, valid = case("cotex", n_views=2)
    leaf = outputs.clone().requires_grad_()
    build(CotexConfig(unlabelled=True))(leaf, labels, valid, 0).backward()
    assert leaf.grad is not None
    assert (leaf.grad[:, ~valid[..., 0]] != 0).any(dim=-1).all()


# finite everywhere


@ALL
@VIEWS
def test_no_valid_label_gives_zero_loss_and_gradient(name: str, n_views: int) -> None:
    outputs, labels, valid = case(name, n_views)
    loss, gradient = loss_and_gradient(name, outputs, torch.full_like(labels, -5), torch.zeros_like(valid))
    assert loss == 0
    assert (gradient == 0).all()


@ALL
@VIEWS
def test_constant_predictions_have_finite_gradients(name: str, n_views: int) -> None:
    """Of a sigmoid or softmax of 40 float32 has nothing left below 1."""
    outputs, labels, valid = case(name, n_views)
    loss, gradient = loss_and_gradient(name, torch.full_like(outputs, 40), labels, valid)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@ALL
@VIEWS
def test_constant_predictions_equal_to_constant_labels_are_finite(name: str, n_views: int) -> None:
    outputs, labels, valid = case(name, n_views)
    loss, gradient = loss_and_gradient(name, torch.ones_like(outputs), torch.ones_like(labels), valid)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@ALL
@VIEWS
def test_one_valid_frame_is_finite(name: str, n_views: int) -> None:
    outputs, labels, valid = case(name, n_views)
    single = torch.zeros_like(valid)
    single[1, 7] = True
    loss, gradient = loss_and_gradient(name, 1e4 * outputs, labels, single)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    others = torch.ones(SHAPE).bool()
    others[1, 7] = False
    assert (gradient[..., others, :] == 0).all()


@ALL
@VIEWS
def test_a_batch_of_one_row_is_finite(name: str, n_views: int) -> None:
    outputs, labels, valid = case(name, n_views, (1,))
    for mask in (torch.ones_like(valid), torch.zeros_like(valid)):
        loss, gradient = loss_and_gradient(name, outputs, labels, mask)
        assert loss.isfinite()
        assert gradient.isfinite().all()


@ALL
@VIEWS
def test_a_step_against_the_gradient_lowers_the_loss(name: str, n_views: int) -> None:
    outputs, labels, valid = case(name, n_views)
    before, gradient = loss_and_gradient(name, outputs, labels, valid)
    assert value(default(name), outputs - 0.01 * gradient, labels, valid) < before


@ALL
def test_gradients_are_right_in_float64(name: str) -> None:
    """But for v-naw's noise weights, which are constants on purpose."""
    config = VNawConfig(weighted=0) if name == "v-naw" else options(name)
    check_gradient(build(config, task_for(name)), *case(name, 2, (2, 3)))


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (CccConfig(moments="unbiased"), VA),
        (FocalConfig(gamma=0.5), EXPR),
        (FocalConfig(gamma=0.5), AU),
        (VNawConfig(through_weights=True, divergence="logit-sum"), EXPR),
    ],
)
def test_gradients_of_other_options_are_right_in_float64(config: LossConfig, task: Task) -> None:
    n_views = 2 if config.name == "v-naw" else 0
    check_gradient(build(config, task), *case(f"{config.name} of {task.name}", n_views, (2, 3)))


def check_gradient(loss: Loss, outputs: Tensor, labels: Tensor, valid: Tensor) -> None:
    leaf = outputs.double().requires_grad_()
    assert loss(leaf, labels, valid, 0.5).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda given: loss(given, labels, valid, 0.5), [leaf])


@ALL
def test_loss_moves_to_a_device_with_its_weights(name: str) -> None:
    outputs, labels, valid = (values.to("meta") for values in case(name, n_views=2))
    assert default(name).to(torch.device("meta"))(outputs, labels, valid, 0.5).device.type == "meta"


# weights


def columns(*values: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    labels = np.array(values, dtype=np.float32)[:, None]
    return labels, labels != -1


def task_of(n_columns: int) -> Task:
    names = tuple("abcdefgh"[:n_columns])
    return Task("some", "binary", names, names, -1, 0, 1, "bce", AU.measure)


def test_positive_weights_by_hand() -> None:
    labels = np.array([[1, 1, 0, 1], [0, 1, 0, 0], [0, -1, 0, 0], [0, -1, 0, 0], [1, 0, 0, 0]], dtype=np.float32)
    # 3 negatives to 2 positives; 1 to 2, as two are not valid; no positive at all; 4 to 1
    found = positive_weights("inverse", task_of(4), labels, labels != -1)
    assert found.tolist() == pytest.approx([3 / 2, 1 / 2, 1, 4])


def test_positive_weights_leave_out_invalid_values() -> None:
    labels, valid = np.array([[1], [1], [0]], dtype=np.float32), np.array([[True], [False], [True]])
    assert positive_weights("inverse", task_of(1), labels, valid).tolist() == [1.0]


def test_positive_weights_are_bounded() -> None:
    found = [
        positive_weights("inverse", task_of(1), *columns(*values)).tolist()
        for values in ([1] + [0] * 999, [0] + [1] * 999, [1] * 5)
    ]
    assert found == [[50.0], pytest.approx([1 / 50]), pytest.approx([1 / 50])]


def test_class_weights_by_hand() -> None:
    """Counts 4, 1, 1 of three classes: inverse frequencies stand 1 : 4 : 4, mean 1 over those that occur."""
    found = class_weights("inverse", EXPR, *columns(0, 0, 0, 0, 1, 2, -1, -1))
    assert found.tolist() == pytest.approx([1 / 3, 4 / 3, 4 / 3, 0, 0, 0, 0, 0])


def test_class_weights_of_equal_counts_are_one() -> None:
    assert class_weights("inverse", EXPR, *columns(*[*range(8)] * 3)).tolist() == pytest.approx([1] * 8)
    assert class_weights("equal", EXPR, *columns(1, 1, 2)).tolist() == [1] * 8


def test_class_weights_without_labels_are_finite() -> None:
    assert class_weights("inverse", EXPR, *columns(-1, -1, -1, -1)).tolist() == [0] * 8


def test_emma_takes_the_weights_of_the_action_units_from_their_columns() -> None:
    """One positive label among four gives 3, and -log(1/2) is the cross-entropy of a logit of 0."""
    labels = np.zeros((4, 15), dtype=np.float32)
    labels[0, 3:] = 1
    valid = np.ones(labels.shape, dtype=bool)
    loss = create_loss(EmmaLossConfig(va=0, expr=0), MTL, labels, valid)
    found = value(loss, torch.zeros(4, 22), torch.from_numpy(labels), torch.from_numpy(valid))
    assert found == pytest.approx(12 * (3 + 1 + 1 + 1) * math.log(2) / 4)


# names and options


def test_loss_of_another_kind_of_task_names_the_fitting_ones() -> None:
    with pytest.raises(
        UsageError, match=r"^Loss 'bce' does not fit task 'va'\. Choose one of: ccc, ccc-bins, ccc-mse, mse\.$"
    ):
        build(BceConfig(), VA)
    with pytest.raises(UsageError, match=r"'emma' does not fit task 'expr'.*: cotex, cross-entropy, focal, v-naw\.$"):
        build(EmmaLossConfig(), EXPR)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_default_loss_of_each_task_fits_it(task: Task) -> None:
    outputs, labels = torch.zeros(2, len(task.outputs)), torch.zeros(2, len(task.columns))
    loss = create_loss(options(task.loss), task, labels.numpy(), np.ones(labels.shape, dtype=bool))
    assert math.isfinite(value(loss, outputs, labels, torch.ones_like(labels).bool()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CrossEntropyConfig(weights=(1, 2, 3)), r"^loss\.weights has 3 numbers, but task expr has 8 classes: pass one"),
        (FocalConfig(weights=(1, 2)), r"has 2 numbers, but task expr has 8 classes"),
        (VNawConfig(weights=(1, 2)), r"has 2 numbers, but task expr has 8 classes"),
        (BceConfig(weights=(1, 2)), r"^loss\.weights has 2 numbers, but task au has 12 columns: pass one"),
        (EmmaLossConfig(positive_weights=(1, 2)), r"^loss\.positive_weights has 2 numbers, but task au has 12 columns"),
    ],
    ids=lambda given: given.name if hasattr(given, "name") else "",
)
def test_wrong_number_of_weights_names_both_counts(config: LossConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(config)


@pytest.mark.parametrize("weights", ["1, 2.5", "1,2.5", ["1", 2.5], (1, 2.5)])
def test_weights_are_read_as_the_command_line_gives_them(weights: object) -> None:
    assert BceConfig.model_validate({"weights": weights}).weights == (1.0, 2.5)


@pytest.mark.parametrize("weights", ["often", "", "1,-2", [1, float("nan")], [0, 0], [], 3, "1,x"])
def test_weights_that_are_none_are_refused_in_one_sentence(weights: object) -> None:
    with pytest.raises(
        ValidationError, match="must be equal, inverse, or comma-separated numbers of 0 and above"
    ) as caught:
        BceConfig.model_validate({"weights": weights})
    assert [error["loc"] for error in caught.value.errors()] == [("weights",)]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_config_is_told_by_its_name_and_survives_json(name: str) -> None:
    config = CONFIGS.validate_python({"name": name})
    assert type(config) is LOSSES[name]
    assert CONFIGS.validate_json(CONFIGS.dump_json(config)) == config
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CONFIGS.validate_python({"name": name, "wieghts": "equal"})
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "other"
