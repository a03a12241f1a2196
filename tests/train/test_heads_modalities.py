"""Heads that fuse features, and that pool frames to clips: by hand in numpy, and what is hidden or missing."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS
from abaw.train.config import make_config
from abaw.train.fusion_options import AnchoredConfig, DifferenceConfig, GatedConfig, ModalityConfig
from abaw.train.head_options import HeadConfig
from abaw.train.heads import Head, create_head
from abaw.train.heads.inputs import JoinFeatures
from abaw.train.heads.mil import soft_maximum
from abaw.train.heads.modalities import Modalities
from abaw.train.model import Model
from abaw.train.sequence_options import MilConfig

SHAPES = {"face": (4,), "voice": (3,), "text": (2,)}
LENGTH = 5
Arrays = dict[str, NDArray]


def make(config: HeadConfig) -> Head:
    torch.manual_seed(0)
    head = create_head(config, SHAPES, (2,)).eval()
    for value in head.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return head


def batch() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two windows; the second one has no text at all."""
    draw = torch.Generator().manual_seed(0)
    features = {name: torch.randn(2, LENGTH, *shape, generator=draw) for name, shape in SHAPES.items()}
    masks = {
        "face": torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]]).bool(),
        "voice": torch.tensor([[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]]).bool(),
        "text": torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]).bool(),
    }
    return features, masks


def weights_of(head: Head) -> Arrays:
    return {key: value.numpy() for key, value in head.state_dict().items()}


def linear(weights: Arrays, name: str, values: NDArray) -> NDArray:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Arrays, name: str, values: NDArray) -> NDArray:
    scaled = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def sigmoid(values: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-values))


def tokens_by_hand(weights: Arrays, features: dict[str, Tensor], masks: dict[str, Tensor]) -> list[NDArray]:
    """(batch, time, dim) of each feature: projected, or its token where it is missing."""
    return [
        np.where(
            masks[name].numpy()[..., None],
            linear(weights, f"modalities.project.{i}", features[name].numpy()),
            weights["modalities.mask_token"][i],
        )
        for i, name in enumerate(SHAPES)
    ]


# what is hidden or missing


def shown_in_training(n_windows: int, share: float, present: tuple[bool, ...]) -> Tensor:
    config = ModalityConfig.model_construct(dim=4, modality_dropout=share, mask_token="learned")
    modalities, inputs = Modalities(config, SHAPES).train(), JoinFeatures(SHAPES)
    torch.manual_seed(0)
    features = {name: torch.ones(n_windows, 3, *shape) for name, shape in SHAPES.items()}
    masks = {name: torch.full((n_windows, 3), value) for name, value in zip(SHAPES, present, strict=True)}
    found = modalities(inputs, features, masks)[1]
    torch.testing.assert_close(modalities.eval()(inputs, features, masks)[1], torch.stack(list(masks.values()), -1))
    return found


def test_modality_dropout_hides_features_of_whole_windows_but_one() -> None:
    shown = shown_in_training(6000, 0.4, (True, True, True))
    assert torch.equal(shown, shown[:, :1].expand_as(shown)), "from the first frame to the last"
    assert bool(shown.any(dim=2).all())
    # all three are below .4 in .064 of the windows, and each is the largest in a third of these
    assert float(shown.float().mean()) == pytest.approx(1 - 0.4 + 0.064 / 3, abs=0.015)
    assert not torch.equal(shown[:, 0, 0], shown[:, 0, 1]), "each by itself"


def test_modality_dropout_leaves_the_only_feature_of_a_window() -> None:
    shown = shown_in_training(500, 0.9, (False, True, False))
    assert shown[:, :, 1].all() and not shown[:, :, [0, 2]].any()


@pytest.mark.parametrize("config", [GatedConfig(layers=0, heads=1), DifferenceConfig()])
def test_tokens_of_missing_features_are_learned_or_zero(config: ModalityConfig) -> None:
    head = make(config)
    features, masks = batch()
    with torch.no_grad():
        before = head(features, masks)
        dict(head.named_parameters())["modalities.mask_token"][0] += 1  # of the face
        changed = (head(features, masks) - before).abs().amax(-1) > 1e-6
    assert torch.equal(changed, ~masks["face"])
    zero = make(config.model_copy(update={"mask_token": "zero"}))
    assert not dict(zero.named_buffers())["modalities.mask_token"].any()


# gated


@pytest.mark.parametrize("gate", ["sigmoid", "none"])
@torch.no_grad()
def test_gated_fusion_by_hand(gate: str) -> None:
    head = make(GatedConfig(dim=6, heads=1, layers=0, gate=gate))
    features, masks = batch()
    weights = weights_of(head)
    tokens = [np.tanh(values) for values in tokens_by_hand(weights, features, masks)]
    gates = (
        sigmoid(linear(weights, "gate", np.concatenate(tokens, axis=-1))) if gate == "sigmoid" else np.ones((2, 5, 3))
    )
    fused = sum(gates[..., [i]] * values for i, values in enumerate(tokens))
    expected = linear(weights, "output", norm(weights, "encoder.norm", np.asarray(fused)))
    np.testing.assert_allclose(head(features, masks), expected, atol=1e-5)


# anchored


def attend_by_hand(weights: Arrays, name: str, queries: NDArray, keys: NDArray, values: NDArray) -> NDArray:
    """One attention head, (frames, dim) of one window; all keys are present."""
    matrices, biases = (np.split(weights[f"{name}.in_proj_{part}"], 3) for part in ("weight", "bias"))
    query, key, value = (
        given @ matrix.T + bias for given, matrix, bias in zip((queries, keys, values), matrices, biases, strict=True)
    )
    scores = query @ key.T / np.sqrt(query.shape[-1])
    shares = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    return linear(weights, f"{name}.out_proj", shares @ value)


@pytest.mark.parametrize("residual", ["gated", "plain"])
@torch.no_grad()
def test_anchored_fusion_by_hand(residual: str) -> None:
    head = make(AnchoredConfig(dim=4, heads=1, layers=0, residual=residual))
    features, masks = batch()
    masks["voice"][0] = False
    weights = weights_of(head)
    face, voice, text = tokens_by_hand(weights, features, masks)
    time = np.arange(LENGTH)[:, None]
    order = np.concatenate([np.sin(time), np.cos(time), np.sin(time / 100), np.cos(time / 100)], axis=1)
    for window in range(2):
        fused = text[window]
        for i, (name, values) in enumerate((("face", face), ("voice", voice))):
            there = masks[name][window].numpy()
            if not there.any():
                continue
            keys, queries = values[window] + order, norm(weights, "norm", text[window]) + order
            found = attend_by_hand(weights, f"attentions.{i}", queries, keys[there], values[window][there])
            gate = np.ones(1)
            if residual == "gated":
                gate = sigmoid(linear(weights, f"gates.{i}", np.concatenate([text[window], found], axis=-1)))
            fused = fused + gate * found
        expected = linear(weights, "output", norm(weights, "encoder.norm", fused))
        np.testing.assert_allclose(head(features, masks)[window], expected, atol=1e-5)


def test_head_that_needs_other_features_says_which() -> None:
    with pytest.raises(UsageError, match=r"'words' \(head.anchor\), found face, voice, text\. Add that feature"):
        make(AnchoredConfig(anchor="words"))
    with pytest.raises(UsageError, match=r"compares two or more features, found face alone\. Add another"):
        create_head(DifferenceConfig(), {"face": (4,)}, (2,))
    with pytest.raises(ValueError, match=r"head\.dim \(128\) must be a multiple of head\.heads \(3\)"):
        AnchoredConfig(heads=3)


# difference


@pytest.mark.parametrize("differences", ["frame", "window", "none"])
@torch.no_grad()
def test_differences_by_hand(differences: str) -> None:
    head = make(DifferenceConfig(dim=6, hidden=7, differences=differences))
    features, masks = batch()
    weights = weights_of(head)
    tokens = tokens_by_hand(weights, features, masks)
    shown = [masks[name].numpy()[..., None] for name in SHAPES]
    compared, there = tokens, shown
    if differences == "window":
        counts = [mask.sum(axis=1, keepdims=True) for mask in shown]
        sums = [(token * mask).sum(axis=1, keepdims=True) for token, mask in zip(tokens, shown, strict=True)]
        compared = [np.repeat(total / np.maximum(n, 1), LENGTH, 1) for total, n in zip(sums, counts, strict=True)]
        there = [np.repeat(n > 0, LENGTH, axis=1) for n in counts]
    pairs = [] if differences == "none" else [(0, 1), (0, 2), (1, 2)]
    parts = tokens + [np.abs(compared[a] - compared[b]) * (there[a] & there[b]) for a, b in pairs]
    hidden = np.maximum(linear(weights, "layers.1", np.concatenate(parts, axis=-1)), 0)
    np.testing.assert_allclose(head(features, masks), linear(weights, "layers.4", hidden), atol=1e-5)


# mil


def states_by_hand(weights: Arrays, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[NDArray, NDArray]:
    """(batch, time, width) hidden states and (batch, time, outputs)."""
    joined = np.concatenate([np.where(masks[name][..., None], features[name], 0) for name in SHAPES], axis=-1)
    states = np.maximum(linear(weights, "hidden.1", joined), 0)
    return states, linear(weights, "output", states)


@torch.no_grad()
def test_attention_of_instances_by_hand() -> None:
    head = make(MilConfig(hidden=(6,), attention=3))
    features, masks = batch()
    weights = weights_of(head)
    states, outputs = states_by_hand(weights, features, masks)
    gated = np.tanh(linear(weights, "attention.content", states)) * sigmoid(linear(weights, "attention.gate", states))
    logits = (gated @ weights["attention.weight.weight"].T)[..., 0]
    shown = np.any([mask.numpy() for mask in masks.values()], axis=0)
    assert not shown.all()
    shares = np.exp(logits) * shown
    expected = (shares / shares.sum(axis=1, keepdims=True))[..., None] * outputs
    np.testing.assert_allclose(head(features, masks), expected.sum(axis=1), atol=1e-5)


@torch.no_grad()
def test_soft_maximum_of_instances_by_hand() -> None:
    head = make(MilConfig(hidden=(6,), pool="log-sum-exp", sharpness=2.5))
    features, masks = batch()
    outputs = states_by_hand(weights_of(head), features, masks)[1]
    shown = np.any([mask.numpy() for mask in masks.values()], axis=0)
    for window in range(2):
        expected = np.log(np.exp(2.5 * outputs[window][shown[window]]).mean(axis=0)) / 2.5
        np.testing.assert_allclose(head(features, masks)[window], expected, atol=1e-5)


def test_soft_maximum_is_between_mean_and_maximum() -> None:
    values, counted = torch.tensor([[[1.0], [5.0], [3.0], [99.0]]]), torch.tensor([[True, True, True, False]])
    assert float(soft_maximum(values, counted, 1e-3)) == pytest.approx(3, abs=0.01)
    assert float(soft_maximum(values, counted, 1000.0)) == pytest.approx(5, abs=0.01)
    exact = np.log(np.exp(1e-4 * np.array([1.0, 5.0, 3.0])).mean()) / 1e-4
    assert float(soft_maximum(values, counted, 1e-4)) == pytest.approx(exact, abs=1e-5), "which is 3.0001 or so"


@pytest.mark.parametrize("pool", ["attention", "log-sum-exp"])
def test_frame_labels_train_the_instances_of_a_clip(pool: str) -> None:
    """A model for a task of frames gives frames, has the weights of one for clips, and trains all that it uses."""
    values = {"features": list(SHAPES), "head": {"name": "mil", "hidden": [6], "pool": pool}}
    frames, clips = (Model(make_config({"task": task, **values}), TASKS[task], SHAPES) for task in ("lsd", "vgaf"))
    features, masks = batch()
    assert frames(features, masks).shape == (2, LENGTH, 6) and clips(features, masks).shape == (2, 3)
    inner = {key for key in frames.state_dict() if "output" not in key}
    assert inner == {key for key in clips.state_dict() if "output" not in key}
    frames(features, masks).sum().backward()
    assert all(value.grad is not None for value in frames.parameters() if value.requires_grad)
    fixed = [key for key, value in frames.named_parameters() if not value.requires_grad]
    assert all(key.startswith("heads.0.attention") for key in fixed) and bool(fixed) == (pool == "attention")
