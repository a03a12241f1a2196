"""Options of the heads, their sizes as published, and the layers that several share."""

import json
from collections.abc import Mapping

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from abaw.core.errors import UsageError
from abaw.tests.support.paths import DATA
from abaw.train.head_options import HEADS, AnyHeadConfig
from abaw.train.heads import Head, create_head
from abaw.train.heads.encoder_head import FrameNorm
from abaw.train.heads.inputs import JoinFeatures

SHAPES = {"flat": (6,), "grid": (3, 4)}
MTL = (1, 1, 8, 12)


def build(options: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]], groups: tuple[int, ...]) -> Head:
    return create_head(TypeAdapter(AnyHeadConfig).validate_python(options), shapes, groups)


# options


@pytest.mark.parametrize(
    ("options", "shapes", "groups", "words"),
    [
        ({"name": "emma"}, {"mae-cls": (768,)}, MTL, "'mae-cls' (head.vit) and 'dan' (head.dan), found mae-cls."),
        ({"name": "emma"}, {"mae-cls": (768,), "dan": (8,), "hog": (9,)}, MTL, "found mae-cls, dan, hog."),
        ({"name": "emma"}, {"mae-cls": (768,), "dan": (8,)}, (8,), "Head 'emma' is for task mtl, whose outputs are 22"),
        ({"name": "cross-attention"}, {"clip-l14": (1024,)}, (3,), "'spectrogram' (head.audio), found clip-l14."),
        ({"name": "cross-attention"}, {"spectrogram": (1, 64, 128)}, (3,), "106x106 or more, found 64x128."),
    ],
)
def test_head_that_does_not_fit_says_so(
    options: dict[str, object], shapes: dict[str, tuple[int, ...]], groups: tuple[int, ...], words: str
) -> None:
    with pytest.raises(UsageError) as error:
        build(options, shapes, groups)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "tcn", "kernel": 4}, "must be odd"),
        ({"name": "encoder", "convs": (512,), "heads": 3}, r"\(512\) must be even and a multiple of head.heads \(3\)"),
        ({"name": "encoder", "convs": ()}, "at least 1 item"),
        ({"name": "mlp", "hidden": "64,0"}, "greater than or equal to 1"),
        ({"name": "gru", "depth": 2}, "Extra inputs are not permitted"),
        ({"name": "cross-attention", "pool": "max"}, "'mean' or 'flatten'"),
        ({"name": "lstn"}, "'tcn', 'transformer'"),
    ],
)
def test_wrong_options_say_what_fits(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(AnyHeadConfig).validate_python(options)


@pytest.mark.parametrize("given", ["64,32", " 64, 32 ", [64, 32], (64, 32)])
def test_widths_are_given_as_a_list_or_with_commas(given: object) -> None:
    assert TypeAdapter(AnyHeadConfig).validate_python({"name": "mlp", "hidden": given}).hidden == (64, 32)


def test_an_option_of_its_own_is_emptied_by_an_empty_text() -> None:
    options = {"name": "encoder", "input_dropout": ""}
    assert TypeAdapter(AnyHeadConfig).validate_python(options).input_dropout is None


@pytest.mark.parametrize("name", HEADS)
def test_options_survive_json(name: str) -> None:
    config = HEADS[name]()
    assert TypeAdapter(AnyHeadConfig).validate_json(config.model_dump_json()) == config


# sizes


def test_published_encoders_have_their_sizes() -> None:
    """Weights of Situ (features of 512 + 512, valence and arousal) and of V-NAW (512, eight classes), by hand."""
    layer = 4 * 512 * 512 + 4 * 512 + 2 * 512 * 512 + 2 * 512 + 4 * 512
    convs = 1024 * 1024 + 1024 + 1024 * 512 + 512
    outputs = 2 * (512 * 256 + 2 * 256 + 256 + 1)
    situ = build({"name": "encoder", "output_hidden": 256}, {"id": (512,), "au": (512,)}, (1, 1))
    assert sum(value.numel() for value in situ.parameters()) == convs + 4 * layer + outputs
    vnaw = build({"name": "encoder", "convs": "512", "heads": 1, "dropout": 0.6}, {"swin-t": (512,)}, (8,))
    assert sum(value.numel() for value in vnaw.parameters()) == 512 * 512 + 512 + 4 * layer + 512 * 8 + 8


def test_emma_has_the_layout_of_its_checkpoint() -> None:
    layout = json.loads((DATA / "reference" / "emma.json").read_text())["layout"]
    wanted = {
        key.removeprefix("vit."): tuple(shape)
        for key, shape in layout.items()
        if key.startswith(("vit.head.", "va_head."))
    }
    head = build({"name": "emma"}, {"mae-cls": (768,), "dan": (8,)}, MTL)
    assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == wanted


# batch normalisation


def test_frame_norm_is_batch_norm_of_the_frames_that_are_there() -> None:
    torch.manual_seed(0)
    ours, theirs = FrameNorm(5), nn.BatchNorm1d(5)
    for norm in (ours, theirs):
        nn.init.constant_(norm.weight, 1.5)
        nn.init.constant_(norm.bias, 0.25)
    values = torch.randn(4, 7, 5) * 3 + 2
    shown = torch.rand(4, 7) > 0.4
    for _ in range(3):
        torch.testing.assert_close(ours(values, shown)[shown], theirs(values[shown]))
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(ours.eval()(values, shown), theirs.eval()(values.flatten(0, 1)).view(4, 7, 5))


@pytest.mark.parametrize("n_shown", [0, 1])
def test_frame_norm_of_fewer_than_two_frames_takes_the_running_statistics(n_shown: int) -> None:
    norm = FrameNorm(5).train()
    shown = torch.arange(6).view(2, 3) < n_shown
    values = torch.randn(2, 3, 5)
    # running mean 0 and variance 1 as they begin, and so they stay
    torch.testing.assert_close(norm(values, shown), values, rtol=1e-4, atol=1e-5)
    assert not norm.running_mean.any() and torch.equal(norm.running_var, torch.ones(5))


# inputs


def test_inputs_are_standardised_flattened_and_joined() -> None:
    join = JoinFeatures(SHAPES)
    draw = torch.Generator().manual_seed(0)
    features = {name: torch.randn(4, 50, *shape, generator=draw) * 3 + 1 for name, shape in SHAPES.items()}
    rows = {name: values.flatten(0, 1).double() for name, values in features.items()}
    join.set_statistics(
        {name: values.mean(0) for name, values in rows.items()},
        {name: values.std(0, correction=0) for name, values in rows.items()},
    )
    joined = join(features, {name: torch.ones(4, 50).bool() for name in SHAPES})
    assert joined.shape == (4, 50, 6 + 3 * 4)
    torch.testing.assert_close(joined.flatten(0, 1).mean(0), torch.zeros(18), atol=1e-5, rtol=0)
    torch.testing.assert_close(joined.flatten(0, 1).std(0, correction=0), torch.ones(18), atol=1e-5, rtol=0)


def test_standardised_values_by_hand() -> None:
    join = JoinFeatures({"f": (2,), "g": (1,)})
    join.set_statistics(
        {"f": torch.tensor([1.0, 10.0]), "g": torch.tensor([4.0])},
        {"f": torch.tensor([2.0, 0.0]), "g": torch.tensor([0.5])},
    )
    features = {"f": torch.tensor([[[5.0, 10.0], [1.0, 99.0], [3.0, 0.0]]]), "g": torch.tensor([[[3.0], [5.0], [6.0]]])}
    found = join(features, {"f": torch.tensor([[True, True, False]]), "g": torch.tensor([[True, False, True]])})
    # (5 - 1) / 2; a value that never varied in training is left out, whatever it is now; a missing feature is zero
    assert found.tolist() == [[[2.0, 0.0, -2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 4.0]]]
