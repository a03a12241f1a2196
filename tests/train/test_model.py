"""The model of a run: views in training, none in evaluation; what stands between its heads and the loss."""

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS
from abaw.train.config import make_config
from abaw.train.losses import create_loss
from abaw.train.losses.regression import expectation
from abaw.train.model import Model, build_model, check_size
from abaw.train.runs import Run

SHAPES = {"face": (5,), "sound": (2, 3)}
N, TIME = 3, 12


def build(*settings: str, task: str = "expr", shapes: dict[str, tuple[int, ...]] | None = None) -> Model:
    torch.manual_seed(0)
    shapes = shapes or SHAPES
    return Model(make_config({"task": task, "features": tuple(shapes)}, settings), TASKS[task], shapes)


def batch(views: tuple[str, ...] = ("",), seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random features of each view, some frames missing in some of them."""
    draw = torch.Generator().manual_seed(seed)
    names = {f"{name}@{view}" if view else name: shape for view in views for name, shape in SHAPES.items()}
    features = {name: torch.randn(N, TIME, *shape, generator=draw) for name, shape in names.items()}
    masks = {name: torch.rand(N, TIME, generator=draw) > 0.2 for name in names}
    return features, masks


def plain(features: dict[str, Tensor], view: str) -> dict[str, Tensor]:
    """The tensors of one view under the names of the features."""
    return {name: features[f"{name}@{view}" if view else name] for name in SHAPES}


HEADS = {
    "linear": ["head.name=linear"],
    "encoder": ["head.name=encoder", "head.convs=16", "head.heads=1", "head.feedforward=16", "head.output_hidden=8"],
    "mlp": ["head.name=mlp", "head.hidden=8"],
}
STYLES = {
    "shared": (("", "hflip"), ["views=,hflip", "loss.name=v-naw"]),
    "own": (("mask0.75.0", "mask0.75.1"), ["views=mask0.75.0,mask0.75.1", "co_train=true", "loss.name=cotex"]),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("style", STYLES)
def test_views_are_stacked_in_training_and_gone_in_evaluation(style: str, head: str) -> None:
    views, settings = STYLES[style]
    model = build(*settings, *HEADS[head])
    assert len(model.heads) == (2 if style == "own" else 1)
    assert model.train()(*batch(views)).shape == (2, N, TIME, 8)
    assert model.eval()(*batch()).shape == (N, TIME, 8)


@pytest.mark.parametrize("style", STYLES)
def test_each_view_goes_through_its_head(style: str) -> None:
    views, settings = STYLES[style]
    model = build(*settings, "head.name=linear")
    features, masks = batch(views)
    found = model.train()(features, masks)
    for number, view in enumerate(views):
        head = model.heads[number if style == "own" else 0]
        torch.testing.assert_close(found[number], head(plain(features, view), plain(masks, view)))
    assert not torch.allclose(found[0], found[1])


def test_a_single_view_replaces_the_feature_in_training() -> None:
    model = build("views=hflip", "head.name=linear")
    features, masks = batch(("hflip",))
    found = model.train()(features, masks)
    torch.testing.assert_close(found, model.heads[0](plain(features, "hflip"), plain(masks, "hflip"))[None])


def test_evaluation_averages_the_heads() -> None:
    model = build(*STYLES["own"][1], "head.name=linear").eval()
    features, masks = batch()
    each = [head(features, masks) for head in model.heads]
    torch.testing.assert_close(model(features, masks), (each[0] + each[1]) / 2)
    assert not torch.allclose(each[0], each[1]), "they begin with weights of their own"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("style", STYLES)
def test_gradient_reaches_every_parameter_of_every_head(style: str, head: str) -> None:
    views, settings = STYLES[style]
    model = build(*settings, *HEADS[head]).train()
    labels = torch.randint(0, 8, (N, TIME, 1)).float()
    config = make_config({"task": "expr", "features": tuple(SHAPES)}, settings)
    loss = create_loss(config.loss, TASKS["expr"], np.zeros((0, 1), np.float32), np.zeros((0, 1), bool))
    loss(model(*batch(views)), labels, torch.ones_like(labels).bool(), 0.5).backward()
    idle = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


def test_statistics_reach_every_head() -> None:
    model = build(*STYLES["own"][1], "head.name=linear")
    mean = {"face": torch.arange(5.0), "sound": torch.arange(6.0).view(2, 3)}
    std = {"face": torch.full((5,), 2.0), "sound": torch.zeros(2, 3)}
    model.set_statistics(mean, std)
    for head in model.heads:
        assert head.inputs.mean.tolist() == [*range(5), *range(6)]
        assert head.inputs.scale.tolist() == [0.5] * 5 + [0.0] * 6


# bins


def test_expectations_come_before_the_bins() -> None:
    model = build("loss.name=ccc-bins", "loss.bins=7", "head.name=linear", task="va").eval()
    features, masks = batch()
    found, logits = model(features, masks), model.heads[0](features, masks)
    assert found.shape == (N, TIME, 2 + 2 * 7)
    torch.testing.assert_close(found[..., 2:], logits)
    for column in range(2):
        wanted = expectation(logits[..., 7 * column : 7 * column + 7], 7)
        torch.testing.assert_close(found[..., column], wanted)
    assert (found[..., :2].abs() <= 1).all()


def test_bins_of_views_have_the_same_layout() -> None:
    model = build("loss.name=ccc-bins", "views=,hflip", "head.name=linear", task="va").train()
    assert model(*batch(("", "hflip"))).shape == (2, N, TIME, 2 + 2 * 20)


def test_bins_have_hidden_layers_for_valence_and_arousal() -> None:
    model = build("loss.name=ccc-bins", "loss.bins=7", *HEADS["encoder"], task="va")
    assert [output.last.out_features for output in model.heads[0].outputs] == [7, 7]


def test_outputs_come_in_the_groups_of_the_task() -> None:
    sizes = {"va": [1, 1], "expr": [8], "au": [12], "mtl": [1, 1, 8, 12], "lsd": [6], "vgaf": [3]}
    for task, wanted in sizes.items():
        model = build(*HEADS["encoder"], task=task)
        assert [output.last.out_features for output in model.heads[0].outputs] == wanted


# whole videos


@pytest.mark.parametrize("views", [(), ("", "hflip")])
def test_frames_of_a_whole_video_are_averaged_where_they_are_there(views: tuple[str, ...]) -> None:
    model = build(*([f"views={','.join(views)}"] if views else []), "head.name=linear", task="vgaf")
    features, masks = batch(views or ("",))
    masks = {name: mask & (torch.arange(N) != 1)[:, None] for name, mask in masks.items()}
    found = model.train()(features, masks)
    assert found.shape == ((2, N, 3) if views else (N, 3))
    for number, view in enumerate(views or ("",)):
        shown, frames = plain(masks, view), model.heads[0](plain(features, view), plain(masks, view))
        there = shown["face"] | shown["sound"]
        own = found[number] if views else found
        for window in (0, 2):
            torch.testing.assert_close(own[window], frames[window][there[window]].mean(0))
        assert not own[1].any(), "nothing to average"


def test_head_of_whole_videos_is_for_tasks_of_whole_videos() -> None:
    assert build("head.name=cross-attention", "head.audio=", task="vgaf").eval()(*batch()).shape == (N, 3)
    with pytest.raises(UsageError, match=r"Head 'cross-attention' gives one output for a whole video; task va needs"):
        build("head.name=cross-attention", "head.audio=", task="va")


# sizes


def sized(dim: int, **head: object) -> Run:
    config = make_config({"task": "va", "features": ("f",), "head": {"name": "transformer", "dim": dim, **head}})
    return Run(Path("large"), config, {"f": {"shape": [197, 1024], "fingerprint": ""}}, "")


def test_large_models_are_allowed_and_those_beyond_all_memory_are_not() -> None:
    large = sized(2048, heads=8)
    check_size(large.config, large.shapes)
    two = {"task": "va", "features": ("f", "g"), "head": {"name": "encoder"}}
    check_size(make_config(two), {"f": (197, 768), "g": (197, 768)})
    beyond = sized(8192, heads=8)
    with pytest.raises(UsageError, match=r"would have .* more than the limit of 2,000,000,000"):
        check_size(beyond.config, beyond.shapes)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_AS")
def test_a_model_without_room_in_memory_is_told() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**29, before[1]))
    try:
        with pytest.raises(
            UsageError, match=r"Not enough memory for the head of run large\. Free some memory, or train a smaller"
        ):
            build_model(sized(2048, heads=8))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# a batch of one row


@pytest.mark.parametrize("task", ["va", "expr"])
@pytest.mark.parametrize("n_shown", [0, 1])
def test_batch_normalisation_of_one_frame_is_finite(task: str, n_shown: int) -> None:
    model = build(*HEADS["encoder"], task=task).train()
    features = {name: values[:1, :1] for name, values in batch()[0].items()}
    masks = {name: torch.full((1, 1), n_shown == 1) for name in features}
    outputs = model(features, masks)
    outputs.sum().backward()
    assert outputs.isfinite().all()
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert isinstance(model, nn.Module)
    assert all(buffer.isfinite().all() for buffer in model.buffers())


# z-scores of a frame


@pytest.mark.parametrize("training", [True, False])
def test_frames_are_z_scored_by_their_own_values(training: bool) -> None:
    """By numpy, for each frame and feature alone; what is missing stays 0, as does a frame of equal values."""
    model = build("standardise=frame", "head.name=linear", task="va").train(training)
    assert model.standardised() == ()
    features, masks = batch()
    features["face"][0, 0] = 1000.0
    features["sound"] *= 50
    joined = []
    for name in SHAPES:
        values = features[name].flatten(2).double().numpy()
        with np.errstate(invalid="ignore"):
            scores = (values - values.mean(axis=2, keepdims=True)) / values.std(axis=2, keepdims=True)
        joined.append(np.nan_to_num(scores) * masks[name].numpy()[..., None])
    output = model.heads[0].output
    wanted = np.concatenate(joined, axis=2) @ output.weight.detach().numpy().T + output.bias.detach().numpy()
    np.testing.assert_allclose(model(features, masks).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert not np.allclose(build("head.name=linear", task="va")(features, masks).detach().numpy(), wanted, atol=0.1)


def test_a_single_value_has_no_z_score_of_a_frame() -> None:
    with pytest.raises(UsageError, match="'loudness' has a single value, whose z-score over a frame is always 0"):
        build("standardise=frame", "head.name=linear", shapes={"face": (5,), "loudness": (1,)})
