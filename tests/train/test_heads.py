"""The contract of every head, and what is particular to each."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from abaw.train.head_options import HEADS, AnyHeadConfig, HeadConfig
from abaw.train.heads import Head, create_head
from abaw.train.heads.encoder_head import EncoderHead
from abaw.train.heads.inputs import any_mask
from abaw.train.heads.lstm import LstmHead, TransformerLstmHead

SHAPES = {"flat": (6,), "grid": (3, 4)}
GROUPS = (1, 1, 8, 12)
N_OUTPUTS = 22
ENCODER = {"name": "encoder", "convs": (24, 16), "layers": 2, "heads": 2, "feedforward": 32}
FUSION = {"name": "cross-attention", "segments": 3}
ALL_SHOWN = {"modality_dropout": 0.0}
CASES: dict[str, dict[str, object]] = {
    "transformer": {"name": "transformer", "dim": 16, "heads": 2, "feedforward": 32},
    "linear": {"name": "linear", "dropout": 0.2},
    "mlp": {"name": "mlp", "hidden": (16, 8)},
    "gru": {"name": "gru", "dim": 8},
    "tcn": {"name": "tcn", "dim": 8, "layers": 3},
    "encoder": ENCODER,
    "encoder-hidden": {**ENCODER, "output_hidden": 8},
    "encoder-of-sets": {**ENCODER, "positions": False, "input_dropout": 0},
    "transformer-of-sets": {"name": "transformer", "dim": 16, "heads": 2, "feedforward": 32, "positions": False},
    "lstm": {"name": "lstm", "dim": 8, "hidden": (16,)},
    "bilstm": {"name": "bilstm", "dim": 8, "layers": 2},
    "transformer-lstm": {**ENCODER, "name": "transformer-lstm"},
    "emma": {"name": "emma", "vit": "grid", "dan": "flat", "vit_hidden": 16, "va_hidden": 16},
    "fusion": {**FUSION, "audio": "flat"},
    "fusion-flatten": {
        **FUSION,
        "audio": "flat",
        "pool": "flatten",
        "audio_frames": "all",
        "video_frames": "middle",
    },
    "fusion-of-frames": {**FUSION, "audio": "flat", "audio_frames": "all", "attend": "frames", "dim": 16, "heads": 2},
    "video-only": {**FUSION, "audio": ""},
    "gated": {"name": "gated", "dim": 16, "heads": 2, "feedforward": 16, **ALL_SHOWN},
    "gated-frames": {"name": "gated", "dim": 8, "heads": 2, "layers": 0, **ALL_SHOWN},
    "anchored": {"name": "anchored", "anchor": "flat", "dim": 16, "heads": 2, "feedforward": 16, **ALL_SHOWN},
    "anchored-no-layers": {"name": "anchored", "anchor": "grid", "dim": 8, "heads": 2, "layers": 0, **ALL_SHOWN},
    "difference": {"name": "difference", "dim": 8, "hidden": 16, **ALL_SHOWN},
    "difference-of-means": {"name": "difference", "dim": 8, "hidden": 16, "differences": "window", **ALL_SHOWN},
    "mil": {"name": "mil", "hidden": (16,), "attention": 8},
    "mil-maximum": {"name": "mil", "hidden": (16,), "pool": "log-sum-exp"},
    "mamba": {"name": "mamba", "dim": 16, "states": 4},
    "mamba-both": {"name": "mamba", "dim": 16, "states": 4, "layers": 1, "bidirectional": True},
}
CONTRACT = pytest.mark.parametrize("case", CASES)
FRAME_LEVEL = pytest.mark.parametrize(
    "case", [case for case, options in CASES.items() if options["name"] not in ("cross-attention", "mil")]
)
TRAINING = pytest.mark.parametrize("training", [True, False])


def make(case: str, **options: object) -> Head:
    """A small head with weights of its own and statistics that are not trivial."""
    return copy.deepcopy(build(case, **options))


def config_of(case: str, **options: object) -> HeadConfig:
    found: HeadConfig = TypeAdapter(AnyHeadConfig).validate_python({**CASES[case], **options})
    return found


@cache  # copies are quicker than random weights
def build(case: str, **options: object) -> Head:
    torch.manual_seed(0)
    head = create_head(config_of(case, **options), SHAPES, GROUPS)
    if head.inputs is not None:
        means = {feature: torch.randn(shape, dtype=torch.float64) for feature, shape in SHAPES.items()}
        stds = {feature: torch.rand(shape, dtype=torch.float64) + 0.5 for feature, shape in SHAPES.items()}
        head.inputs.set_statistics(means, stds)
    return head


def batch(n: int = 3, length: int = 9, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features and their masks: frame 0 has both, 1 none, 2 only `flat` and 3 only `grid`, the others by chance."""
    draw = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(n, length, *shape, generator=draw) for name, shape in SHAPES.items()}
    masks = {name: torch.rand(n, length, generator=draw) > 0.3 for name in SHAPES}
    for i, name in enumerate(SHAPES):
        masks[name][:, 0] = True
        masks[name][:, 1:2] = False
        masks[name][:, 2:3] = i == 0
        masks[name][:, 3:4] = i == 1
    return features, masks


def all_shown(n: int, length: int) -> dict[str, Tensor]:
    return {name: torch.ones(n, length).bool() for name in SHAPES}


def filled(features: dict[str, Tensor], masks: dict[str, Tensor], value: float) -> dict[str, Tensor]:
    """The features with another value where they are masked."""
    return {
        name: torch.where(masks[name].view(*masks[name].shape, *[1] * (values.ndim - 2)), values, value)
        for name, values in features.items()
    }


def part(values: dict[str, Tensor], *index: slice | list[int]) -> dict[str, Tensor]:
    return {name: value[index] for name, value in values.items()}


def test_every_head_is_under_contract() -> None:
    probes = {name for name, options in HEADS.items() if options.is_probe}
    assert {options["name"] for options in CASES.values()} == set(HEADS) - probes


@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_probes_are_linear_heads(name: str) -> None:
    linear = make("linear").eval()
    probe = create_head(TypeAdapter(AnyHeadConfig).validate_python({"name": name}), SHAPES, GROUPS)
    probe.load_state_dict(linear.state_dict())
    torch.testing.assert_close(probe.train()(*batch()), linear(*batch()), atol=0, rtol=0)


@CONTRACT
@pytest.mark.parametrize("length", [1, 7])
@TRAINING
def test_one_output_for_every_frame_or_window(case: str, length: int, training: bool) -> None:
    head = make(case).train(training)
    found = head(*batch(2, length))
    assert found.shape == ((2, length, N_OUTPUTS) if head.level == "frame" else (2, N_OUTPUTS))
    assert found.isfinite().all()


@CONTRACT
def test_gradients_reach_every_parameter(case: str) -> None:
    head = make(case).train()
    head(*batch()).square().sum().backward()
    untouched = [key for key, value in head.named_parameters() if value.grad is None or not value.grad.any()]
    assert untouched == []


@CONTRACT
@TRAINING
def test_values_at_masked_frames_change_nothing(case: str, training: bool) -> None:
    features, masks = batch()
    assert not torch.equal(*masks.values())
    found = []
    for given in (features, filled(features, masks, float("nan"))):
        head = make(case).train(training)
        torch.manual_seed(1)
        found.append((head(given, masks), head.state_dict()))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(value, found[1][1][key]) for key, value in found[0][1].items())


@CONTRACT
def test_gradients_are_finite_with_nan_at_masked_frames(case: str) -> None:
    head = make(case).train()
    features, masks = batch()
    head(filled(features, masks, float("nan")), masks).square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in head.parameters())


@CONTRACT
@pytest.mark.parametrize("feature", SHAPES)
def test_values_at_shown_frames_matter(case: str, feature: str) -> None:
    head = make(case).eval()
    features, masks = batch()
    moved = {**features, feature: features[feature] + 1}
    assert not torch.allclose(head(moved, masks), head(features, masks))


@CONTRACT
@pytest.mark.parametrize(
    ("lost", "windows"), [(["grid"], slice(None)), (["flat", "grid"], slice(1, 2)), (["flat", "grid"], slice(None))]
)
@TRAINING
def test_windows_without_a_feature_are_finite(case: str, lost: list[str], windows: slice, training: bool) -> None:
    head = make(case).train(training)
    features, masks = batch()
    for feature in lost:
        masks[feature][windows] = False
    found = head(filled(features, masks, float("nan")), masks)
    assert found.isfinite().all()
    found.sum().backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in head.parameters())
    assert all(value.isfinite().all() for value in head.buffers())


@CONTRACT
def test_evaluation_is_deterministic(case: str) -> None:
    head = make(case).eval()
    features, masks = batch()
    assert torch.equal(head(features, masks), head(features, masks))


@CONTRACT
@pytest.mark.parametrize("grad", [True, False])
def test_other_windows_of_the_batch_do_not_matter(case: str, grad: bool) -> None:
    """Without gradients torch may take another path through the encoder: both must agree with windows one by one."""
    head = make(case).eval()
    features, masks = batch(4)
    for mask in masks.values():
        mask[2] = False
    with torch.set_grad_enabled(grad):
        together = head(features, masks)
    alone = [head(part(features, slice(i, i + 1)), part(masks, slice(i, i + 1))) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@CONTRACT
def test_half_precision_stays_close(case: str) -> None:
    """As the training loop runs on a GPU."""
    head = make(case).eval()
    features, masks = batch()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(features, masks).float()
    wanted = head(features, masks)
    assert float(((found - wanted).norm() / wanted.norm()).detach()) < 0.03
    found.sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in head.parameters())


@FRAME_LEVEL
def test_padding_at_the_end_changes_nothing(case: str) -> None:
    """Cutting missing frames off the end of a window leaves the outputs of the others as they are."""
    head = make(case).eval()
    features, masks = batch(2, 10)
    masks["flat"][:, 5] = True
    for mask in masks.values():
        mask[:, 6:] = False
    cut = (slice(None), slice(6))
    shorter = head(part(features, *cut), part(masks, *cut))
    torch.testing.assert_close(head(features, masks)[:, :6], shorter, atol=1e-5, rtol=1e-5)


@CONTRACT
def test_features_are_found_by_name(case: str) -> None:
    head = make(case).eval()
    features, masks = batch()
    assert torch.equal(head(dict(reversed(features.items())), masks), head(features, masks))


@CONTRACT
def test_weights_hold_all_that_evaluation_needs(case: str) -> None:
    """A head of other weights and statistics gives the same outputs once it has taken the state of the first."""
    head = make(case).eval()
    torch.manual_seed(5)
    other = create_head(config_of(case), SHAPES, GROUPS).eval()
    features, masks = batch()
    assert not torch.allclose(other(features, masks), head(features, masks))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(features, masks), head(features, masks))


@FRAME_LEVEL
def test_frame_sees_its_neighbours_or_itself_alone(case: str) -> None:
    head = make(case).eval()
    features, _ = batch(1, 10)
    masks = all_shown(1, 10)
    moved = {name: value.clone() for name, value in features.items()}
    for value in moved.values():
        value[:, 6] += 3
    changed = (head(moved, masks) - head(features, masks)).abs().amax(-1)[0] > 1e-6
    alone = ("linear", "mlp", "emma", "gated-frames", "difference")
    seen_by = [6] if case in alone else [6, 7, 8, 9] if case in ("lstm", "mamba") else list(range(10))
    assert changed.nonzero().flatten().tolist() == seen_by
    assert config_of(case).is_causal == (min(seen_by) == 6)


@pytest.mark.parametrize("case", ["transformer", "gru", "tcn", "encoder", "bilstm", "transformer-lstm"])
def test_order_of_the_frames_matters(case: str) -> None:
    head = make(case).eval()
    features, _ = batch(1, 10)
    masks = all_shown(1, 10)
    swapped = {name: value[:, [0, 1, 2, 3, 4, 6, 5, 7, 8, 9]] for name, value in features.items()}
    assert not torch.allclose(head(swapped, masks)[:, 0], head(features, masks)[:, 0])


@pytest.mark.parametrize("case", ["transformer-of-sets", "encoder-of-sets"])
def test_without_positions_the_outputs_follow_the_order_of_the_frames(case: str) -> None:
    """The encoders treat a window as a set of frames, gaps included; with positions they do not."""
    order = [4, 0, 8, 2, 6, 1, 7, 3, 5]
    features, masks = batch()
    mixed = (part(features, slice(None), order), part(masks, slice(None), order))
    with torch.no_grad():
        head, ordered = make(case).eval(), make(case, positions=True).eval()
        torch.testing.assert_close(head(*mixed), head(features, masks)[:, order], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(ordered(*mixed), ordered(features, masks)[:, order], atol=1e-3)


@pytest.mark.parametrize("case", ["transformer", "encoder"])
@pytest.mark.parametrize(("input_dropout", "is_random"), [(None, True), (0.5, True), (0.0, False)])
def test_dropout_on_the_input_is_an_option_of_its_own(case: str, input_dropout: float | None, is_random: bool) -> None:
    """With the layers of the encoder in evaluation, and no frame hidden, only its input is random."""
    more = {"mask_ratio": 0} if case == "transformer" else {}
    head = make(case, dropout=0.5, input_dropout=input_dropout, **more).train()
    dict(head.named_children())["encoder"].eval()
    features, masks = batch()
    assert torch.equal(head(features, masks), head(features, masks)) != is_random


@pytest.mark.parametrize("case", ["transformer", "gru"])
def test_learned_mask_token_stands_at_missing_frames(case: str) -> None:
    head = make(case).eval()
    features, masks = batch()
    before, missing = head(features, masks), ~any_mask(masks)
    with torch.no_grad():
        dict(head.named_parameters())["mask_token"] += torch.randn_like(dict(head.named_parameters())["mask_token"])
    changed = (head(features, masks) - before).abs().amax(-1) > 1e-6
    assert changed[missing].all()


# transformer


def test_mask_ratio_hides_frames_in_training_only() -> None:
    """All else that is random is off: what differs between two passes is the choice of hidden frames."""
    features, masks = batch(8, 50)
    hiding, showing = (make("transformer", dropout=0.0, mask_ratio=ratio) for ratio in (0.5, 0.0))
    showing.load_state_dict(hiding.state_dict())
    assert torch.equal(hiding.eval()(features, masks), showing.eval()(features, masks))
    hiding.train()
    showing.train()
    assert torch.equal(showing(features, masks), showing(features, masks))
    assert not torch.allclose(hiding(features, masks), hiding(features, masks))


@pytest.mark.parametrize("ratio", [0.3, 0.8])
def test_mask_ratio_is_the_share_of_hidden_frames(ratio: float) -> None:
    """A hidden frame's own value has no influence, so the gradient with respect to it is exactly zero."""
    hidden = hidden_frames(make("transformer", dropout=0.0, mask_ratio=ratio).train(), 16, 100)
    assert torch.equal(hidden["flat"], hidden["grid"]), "a hidden frame lacks all features"
    assert float(hidden["flat"].float().mean()) == pytest.approx(ratio, abs=0.04)
    assert not torch.equal(hidden["flat"][0], hidden["flat"][1]), "drawn for every window"


def hidden_frames(head: Head, n: int, length: int) -> dict[str, Tensor]:
    features = {name: value.requires_grad_() for name, value in batch(n, length)[0].items()}
    outputs = head(features, all_shown(n, length)).square().sum()
    gradients = torch.autograd.grad(outputs, list(features.values()))
    return {name: (value.flatten(2) == 0).all(-1) for name, value in zip(features, gradients, strict=True)}


def test_mask_token_is_learned_or_zero() -> None:
    learned, zero = make("transformer"), make("transformer", mask_token="zero")
    assert dict(learned.named_parameters())["mask_token"].any()
    assert "mask_token" not in dict(zero.named_parameters())
    assert not dict(zero.named_buffers())["mask_token"].any()


# gru


def test_frames_after_the_last_one_get_its_outputs() -> None:
    head = make("gru").eval()
    features, masks = batch(2, 8)
    for mask in masks.values():
        mask[0, 5:] = False
    masks["flat"][:, 4] = True
    found = head(features, masks)
    torch.testing.assert_close(found[0, 5:], found[0, 4:5].expand(3, -1), atol=0, rtol=0)
    assert not torch.allclose(found[1, 5], found[1, 4])


# tcn


def test_tcn_sees_as_far_as_it_says() -> None:
    """Kernel 5, dilations 1, 2 and 4: (5 - 1) / 2 x (1 + 2 + 4) = 14 frames to either side."""
    head = make("tcn", kernel=5).eval()
    features = {name: value.requires_grad_() for name, value in batch(1, 41)[0].items()}
    gradient = torch.autograd.grad(head(features, all_shown(1, 41))[0, 20].sum(), features["flat"])[0]
    assert gradient[0].any(-1).nonzero().flatten().tolist() == list(range(6, 35))


# encoder


def test_encoder_has_a_hidden_layer_for_each_group() -> None:
    """One group's output weights move this group's outputs alone."""
    head = make("encoder", output_hidden=8).eval()
    features, masks = batch()
    before = head(features, masks)
    hidden = [key for key, value in head.named_parameters() if value.shape == (8, 16)]
    assert len(hidden) == len(GROUPS)
    with torch.no_grad():
        dict(head.named_parameters())[hidden[2]].zero_()
    changed = (head(features, masks) != before).any(0).any(0)
    assert changed.nonzero().flatten().tolist() == list(range(2, 10))


# lstm, bilstm, transformer-lstm


@pytest.mark.parametrize("case", ["lstm", "bilstm", "transformer-lstm"])
def test_lstm_reads_the_frames_that_are_there_one_after_another(case: str) -> None:
    """torch's LSTM over these frames of one window at a time; a gap repeats the frame before it, or the first one."""
    head = make(case).eval()
    features, masks = batch(4)
    for mask in masks.values():
        mask[2], mask[3, :2] = False, False
    shown = any_mask(masks)
    with torch.no_grad():
        if isinstance(head, LstmHead):
            tokens, last = head.layers(head.inputs(features, masks)), head.output
        else:
            assert isinstance(head, TransformerLstmHead)
            tokens = EncoderHead.encode(head, features, masks, shown)
            last = lambda states: torch.cat([output(states, None) for output in head.outputs], dim=-1)  # noqa: E731
        outputs = head(features, masks)
        for window in (0, 1, 3):
            states = head.lstm(tokens[window, shown[window]][None])[0][0]
            n_read = 0
            for frame in range(shown.shape[1]):
                n_read += int(shown[window, frame])
                expected = last(states[max(n_read - 1, 0)])
                torch.testing.assert_close(outputs[window, frame], expected, atol=1e-5, rtol=1e-5)


# emma


def test_emma_by_hand() -> None:
    head = make("emma").eval()
    assert head.inputs is None
    features, _ = batch(2, 4)
    found = head(features, all_shown(2, 4)).detach().numpy()
    weights = {key: value.detach().numpy() for key, value in head.named_parameters()}

    def layers(name: str, values: np.ndarray) -> np.ndarray:
        hidden = np.maximum(values @ weights[f"{name}.0.weight"].T + weights[f"{name}.0.bias"], 0)
        return hidden @ weights[f"{name}.2.weight"].T + weights[f"{name}.2.bias"]

    scores = layers("head", features["grid"].numpy().reshape(2, 4, 12))
    va = layers("va_head", np.concatenate([features["flat"].numpy(), scores], axis=-1))
    np.testing.assert_allclose(found, np.concatenate([va, scores], axis=-1), atol=1e-5)
