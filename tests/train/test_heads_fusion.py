"""Sound and scene: agreement with the published audio branch, segments of a window, and the fusion by hand."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from abaw.tests.support.paths import DATA
from abaw.train.head_options import CrossAttentionConfig
from abaw.train.heads import Head, create_head
from abaw.train.heads.audio_branch import AudioBranch
from abaw.train.heads.segments import average, middle

REFERENCE = DATA / "reference"
SIZE = 106  # the smallest spectrogram that the CNN takes
SOUND, SCENE = {"spectrogram": (1, SIZE, SIZE)}, {"clip-l14": (1024,)}


def test_audio_branch_agrees_with_the_original() -> None:
    spec = importlib.util.spec_from_file_location("seeded", REFERENCE / "seeded.py")
    assert spec is not None and spec.loader is not None
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    recorded = json.loads((REFERENCE / "emotiw_audio.json").read_text())
    state = {key: torch.from_numpy(value) for key, value in seeded.seeded_state_dict(recorded["layout"]).items()}
    branch = AudioBranch((1, 128, 128), CrossAttentionConfig(norm_eps=1e-6)).eval()
    branch.load_state_dict(state)
    with torch.no_grad():
        embedding = branch(
            torch.from_numpy(seeded.seeded_input(tuple(recorded["input_shape"]))), torch.ones(2, 5).bool()
        ).numpy()
    with np.load(REFERENCE / "emotiw_audio.npz") as outputs:
        assert embedding.shape == outputs["embedding"].shape
        error = np.linalg.norm(embedding - outputs["embedding"]) / np.linalg.norm(outputs["embedding"])
    assert error < 1e-4


def test_the_published_dropouts_and_eps_reach_their_layers() -> None:
    options = {"feedforward_dropout": 0.5, "audio_dropout": 0.2, "norm_eps": 1e-6}
    head = make({**SOUND, **SCENE}, **options)
    assert isinstance(head.audio, AudioBranch) and isinstance(head.attention, torch.nn.MultiheadAttention)
    assert head.audio.encoder.attn.dropout == 0.2
    assert [module.p for module in head.audio.modules() if isinstance(module, torch.nn.Dropout)] == [0.5]
    assert [module.eps for module in head.modules() if isinstance(module, torch.nn.LayerNorm)] == [1e-6, 1e-6]
    assert head.attention.dropout == 0.1, "of the option `dropout`"
    others = make({**SOUND, **SCENE}, dropout=0.3, cross_dropout=0)
    assert isinstance(others.audio, AudioBranch) and isinstance(others.attention, torch.nn.MultiheadAttention)
    assert (others.audio.encoder.attn.dropout, others.attention.dropout) == (0.3, 0)


@pytest.mark.parametrize(("length", "n_segments"), [(75, 5), (10, 5), (7, 3), (5, 5), (3, 5), (1, 2)])
def test_segments_by_brute_force(length: int, n_segments: int) -> None:
    draw = torch.Generator().manual_seed(length)
    values = torch.randn(2, length, 4, generator=draw)
    mask = torch.rand(2, length, generator=draw) > 0.4
    means, has_mean = average(values, mask, n_segments)
    taken, has_taken = middle(values, mask, n_segments)
    assert torch.equal(has_mean, has_taken)
    for row in range(2):
        for segment in range(n_segments):
            inside = [t for t in range(length) if t * n_segments // length == segment]
            present = [t for t in inside if mask[row, t]]
            assert bool(has_mean[row, segment]) == bool(present)
            wanted = np.mean([values[row, t].numpy() for t in present], axis=0) if present else np.zeros(4)
            np.testing.assert_allclose(means[row, segment], wanted, atol=1e-6)
            if present:
                nearest = min(present, key=lambda t: abs(t - (inside[0] + inside[-1]) / 2))
                assert torch.equal(taken[row, segment], values[row, nearest])


def test_middle_frames_of_a_published_window() -> None:
    frames = torch.arange(75)[None]
    assert middle(frames, torch.ones(1, 75).bool(), 5)[0].tolist() == [[7, 22, 37, 52, 67]]


def make(shapes: dict[str, tuple[int, ...]], **options: object) -> Head:
    torch.manual_seed(0)
    head = create_head(CrossAttentionConfig.model_validate(options), shapes, (3,)).eval()
    for name, value in head.named_parameters():
        if name.endswith("bias"):  # some of torch's begin at zero
            torch.nn.init.normal_(value, std=0.1)
    return head


def batch(n: int, length: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shapes = {**SOUND, **SCENE}
    features = {name: torch.randn(n, length, *shape, generator=draw) for name, shape in shapes.items()}
    return features, {name: torch.ones(n, length).bool() for name in shapes}


def attend_by_hand(head: Head, queries: Tensor, keys: Tensor) -> Tensor:
    """One head of attention (Vaswani et al., 2017)."""
    weights = {key.removeprefix("attention."): value for key, value in head.state_dict().items()}
    query, key, value = (
        given @ matrix.T + bias
        for given, matrix, bias in zip(
            (queries, keys, keys), weights["in_proj_weight"].chunk(3), weights["in_proj_bias"].chunk(3), strict=True
        )
    )
    attended = (query @ key.transpose(1, 2) / 1024**0.5).softmax(dim=-1) @ value
    return attended @ weights["out_proj.weight"].T + weights["out_proj.bias"]


@pytest.mark.parametrize("audio_frames", ["middle", "all"])
@pytest.mark.parametrize("pool", ["mean", "flatten"])
@torch.no_grad()
def test_fusion_by_hand(audio_frames: str, pool: str) -> None:
    """As published, but for a window of 4 frames: two segments of two."""
    head = make({**SOUND, **SCENE}, audio_frames=audio_frames, pool=pool, segments=2)
    features, masks = batch(2, 4)
    branch = head.audio
    assert isinstance(branch, AudioBranch)
    if audio_frames == "all":
        audio = branch(features["spectrogram"], masks["spectrogram"]).view(2, 2, 2, 1024).mean(dim=2)
    else:
        audio = branch(features["spectrogram"][:, ::2], masks["spectrogram"][:, ::2])
    video = features["clip-l14"].view(2, 2, 2, 1024).mean(dim=2)
    joined = torch.cat([audio, attend_by_hand(head, audio, video), video], dim=-1)
    weight, bias = head.state_dict()["output.weight"], head.state_dict()["output.bias"]
    wanted = (joined.mean(dim=1) if pool == "mean" else joined.flatten(1)) @ weight.T + bias
    torch.testing.assert_close(head(features, masks), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("audio_frames", ["middle", "all"])
@pytest.mark.parametrize("pool", ["mean", "flatten"])
@torch.no_grad()
def test_attention_between_frames_by_hand(audio_frames: str, pool: str) -> None:
    """All frames of the scene are attended to, and averaged in two segments of two only afterwards."""
    options = {"audio_frames": audio_frames, "pool": pool, "segments": 2}
    head = make({**SOUND, **SCENE}, **options, attend="frames")
    features, masks = batch(2, 4)
    assert isinstance(head.audio, AudioBranch)
    step = 1 if audio_frames == "all" else 2
    audio = head.audio(features["spectrogram"][:, ::step], masks["spectrogram"][:, ::step])
    attended = attend_by_hand(head, audio, features["clip-l14"])
    in_segments = [part.view(2, 2, -1, 1024).mean(dim=2) for part in (audio, attended, features["clip-l14"])]
    joined = torch.cat(in_segments, dim=-1)
    weight, bias = head.state_dict()["output.weight"], head.state_dict()["output.bias"]
    expected = (joined.mean(dim=1) if pool == "mean" else joined.flatten(1)) @ weight.T + bias
    torch.testing.assert_close(head(features, masks), expected, atol=1e-5, rtol=1e-4)
    other = make({**SOUND, **SCENE}, **options)
    assert not torch.allclose(other(features, masks), expected, atol=1e-4)


@torch.no_grad()
def test_missing_frames_are_not_attended_to_nor_averaged() -> None:
    """With frames 3, 4 and 5 of six missing, the outputs are those of the first three, for which segments are one frame."""
    shapes, options = {"compare": (7,), **SCENE}, {"audio": "compare", "audio_frames": "all", "attend": "frames"}
    head = make(shapes, **options, segments=3)
    features = {name: torch.randn(2, 6, *shape) for name, shape in shapes.items()}
    masks = {name: (torch.arange(6) < 3).expand(2, 6) for name in shapes}
    spoiled = {name: torch.where(masks[name][..., None], values, torch.nan) for name, values in features.items()}
    expected = head(
        {name: value[:, :3] for name, value in features.items()}, {name: mask[:, :3] for name, mask in masks.items()}
    )
    # frames 0 and 1 are the first segment, 2 is the second, the third is empty: its mean weighs frames otherwise
    weighed = make(shapes, **options, segments=6)(spoiled, masks)
    torch.testing.assert_close(weighed, expected, atol=1e-5, rtol=1e-4)


def test_widths_and_heads_of_the_fusion() -> None:
    head = make({**SOUND, **SCENE}, dim=64, heads=4, feedforward=32)
    shapes = {key: tuple(value.shape) for key, value in head.state_dict().items()}
    assert shapes["project.weight"] == (64, 1024)
    assert shapes["audio.backbone.1.weight"] == (64, 1024), "the CNN stays as wide as it is"
    assert shapes["audio.encoder.ff.net.0.weight"] == (32, 64)
    assert shapes["output.weight"] == (3, 3 * 64)
    assert {module.num_heads for module in head.modules() if isinstance(module, torch.nn.MultiheadAttention)} == {4}
    features, masks = batch(2, 10)
    assert head(features, masks).shape == (2, 3)
    with pytest.raises(ValueError, match=r"head\.dim \(1024\) must be a multiple of head\.heads \(3\)"):
        CrossAttentionConfig(heads=3)


def test_scene_of_the_published_width_is_taken_as_it_is() -> None:
    assert "project.weight" not in make(SCENE, audio="").state_dict()
    assert make({"dan": (8,)}, audio="").state_dict()["project.weight"].shape == (1024, 8)


def test_scene_by_hand() -> None:
    """Without sound: the mean of five segment means, of the middle frames, or side by side."""
    features, masks = batch(2, 75)
    segments = features["clip-l14"].view(2, 5, 15, 1024)
    for options, wanted in [
        ({}, segments.mean(dim=(1, 2))),
        ({"video_frames": "middle"}, segments[:, :, 7].mean(dim=1)),
        ({"pool": "flatten"}, segments.mean(dim=2).flatten(1)),
    ]:
        head = make(SCENE, audio="", **options)
        weight, bias = head.state_dict()["output.weight"], head.state_dict()["output.bias"]
        torch.testing.assert_close(head(features, masks), wanted @ weight.T + bias, atol=1e-5, rtol=1e-4)


def test_sound_alone_goes_in_as_it_is() -> None:
    head = make(SOUND, segments=2)
    assert head.inputs is None
    features, masks = batch(1, 4)
    assert head(features, masks).shape == (1, 3)


def test_sound_that_is_a_vector_is_standardised_with_the_scene() -> None:
    head = make({"compare": (130,), **SCENE}, audio="compare")
    assert head.inputs is not None
    assert head.inputs.widths == {"compare": 130, "clip-l14": 1024}


def test_cnn_sees_no_missing_frame() -> None:
    head = make({**SOUND, **SCENE}, segments=3, audio_frames="all")
    seen: list[int] = []
    assert isinstance(head.audio, AudioBranch)
    head.audio.backbone.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    features, masks = batch(2, 3)
    masks["spectrogram"] = torch.tensor([[True, False, True], [False, False, False]])
    features["spectrogram"][~masks["spectrogram"]] = float("nan")
    head.train()(features, masks).square().sum().backward()
    assert seen == [2]
    assert all(value.grad is not None and value.grad.isfinite().all() for value in head.parameters())


@pytest.mark.parametrize("lost", ["spectrogram", "clip-l14"])
def test_without_one_of_the_two_the_other_is_left(lost: str) -> None:
    """The parts of a lost one are zero, and so is what the sound finds in the scene."""
    head = make({**SOUND, **SCENE}, segments=2)
    features, masks = batch(2, 2)
    masks[lost][:] = False
    weight, bias = head.state_dict()["output.weight"], head.state_dict()["output.bias"]
    if lost == "spectrogram":
        left, columns = features["clip-l14"].mean(dim=1), slice(2048, 3072)
    else:
        assert isinstance(head.audio, AudioBranch)
        left, columns = head.audio(features["spectrogram"], masks["spectrogram"]).mean(dim=1), slice(0, 1024)
    torch.testing.assert_close(head(features, masks), left @ weight[:, columns].T + bias, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_missing_sound_is_not_attended_to() -> None:
    torch.manual_seed(0)
    branch = AudioBranch((7,), CrossAttentionConfig()).eval()
    values = torch.randn(2, 5, 7)
    mask = torch.arange(5).expand(2, 5) < 3
    torch.testing.assert_close(branch(values, mask)[:, :3], branch(values[:, :3], mask[:, :3]), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_missing_scene_is_not_attended_to() -> None:
    """Three segments of a frame each, the last without a scene."""
    head = make({"compare": (7,), **SCENE}, audio="compare", segments=3)
    features = {"compare": torch.randn(2, 3, 7), "clip-l14": torch.randn(2, 3, 1024)}
    masks = {"compare": torch.ones(2, 3).bool(), "clip-l14": torch.tensor([[True, True, False]] * 2)}
    assert isinstance(head.audio, AudioBranch)
    audio, video = head.audio(features["compare"], masks["compare"]), features["clip-l14"][:, :2]
    parts = [audio, attend_by_hand(head, audio, video), video]
    weight, bias = head.state_dict()["output.weight"], head.state_dict()["output.bias"]
    wanted = torch.cat([part.mean(dim=1) for part in parts], dim=-1) @ weight.T + bias
    torch.testing.assert_close(head(features, masks), wanted, atol=1e-5, rtol=1e-4)
