"""Copies to a device and back: buffers that are used again, and copies that happen as late as a GPU's may."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from abaw.backbones.backbone import create_backbone, describe
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import Built
from abaw.backbones.spec import UNTRAINED, BackboneSpec, ImageInput
from abaw.core.progress import Summary
from abaw.datasets.layouts import open_dataset
from abaw.extract import runner
from abaw.extract.device_copies import N_UPLOADS, CopyStream, PlainCopies, StreamedCopies, copies_of
from abaw.extract.feature import Feature
from abaw.extract.runner import Runner
from abaw.extract.waits import DECODE, NETWORK, WRITE, Waits, describe_shares
from abaw.store import FeatureStore
from abaw.tests.support.processes import assert_equal_stores


class Convolution(nn.Module):
    """A small network."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 7, 4), nn.ReLU(), nn.Conv2d(5, 5, 5))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"values": self.layers(images).mean((2, 3))}


class LateEvent:
    """An event of a copy that happens only when somebody waits for it."""

    def __init__(self, copy: Callable[[], object]) -> None:
        self._copies = [copy]

    def synchronize(self) -> None:
        while self._copies:
            self._copies.pop()()


class LateStream:
    """`CopyStream` on the CPU: copies happen as late as possible, and memory holds rubbish until then.

    Args:
        waits: computation waits for uploads, as it does on a GPU; here it begins at once.
    """

    def __init__(self, waits: bool = True) -> None:
        self.waits, self.n_pinned = waits, 0
        self.events: list[LateEvent] = []

    def pinned(self, n_bytes: int) -> torch.Tensor:
        self.n_pinned += 1
        return torch.full((n_bytes,), 77, dtype=torch.uint8)

    def to_device(self, pinned: torch.Tensor) -> tuple[torch.Tensor, LateEvent]:
        on_device = torch.full_like(pinned, 99)
        event = self._event(lambda: on_device.copy_(pinned))
        if self.waits:
            event.synchronize()
        return on_device, event

    def to_host(self, values: torch.Tensor, pinned: torch.Tensor) -> LateEvent:
        return self._event(lambda: pinned.copy_(values))

    def _event(self, copy: Callable[[], object]) -> LateEvent:
        self.events.append(LateEvent(copy))
        return self.events[-1]


def draw_images(rng: np.random.Generator, n: int, height: int, width: int) -> list[np.ndarray]:
    return list(rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8))


def test_a_buffer_is_filled_again_only_after_its_copy():
    rng, stream = np.random.default_rng(0), LateStream(waits=False)
    copies = StreamedCopies(stream, LateStream())
    sent = [draw_images(rng, 1 + turn % 4, 5 + turn % 3, 7) for turn in range(20)]
    on_device = [copies.upload(images) for images in sent]
    for event in stream.events:
        event.synchronize()
    for images, arrived in zip(sent, on_device, strict=True):
        np.testing.assert_array_equal(arrived.numpy(), np.stack(images))


def test_buffers_are_used_again_and_grow():
    rng, up, down = np.random.default_rng(0), LateStream(), LateStream()
    copies = StreamedCopies(up, down)
    for size in (9, *[8] * 30):
        copies.upload(draw_images(rng, 2, size, size))
        fetches = [copies.download(torch.rand(2, size)) for _ in range(2)]
        [fetch() for fetch in fetches]
    assert up.n_pinned == N_UPLOADS and down.n_pinned == 2
    copies.upload(draw_images(rng, 3, 20, 20))
    assert up.n_pinned == N_UPLOADS + 1


def test_results_stay_while_others_arrive():
    copies = StreamedCopies(LateStream(), LateStream())
    values = torch.arange(60, dtype=torch.float32).view(5, 3, 4)
    early = copies.download(values[:3, :, 1:])  # not contiguous
    later = copies.download(values.bfloat16())
    first = early()
    for _ in range(3):
        copies.download(torch.full((5, 3, 4), -1.0))()
    np.testing.assert_array_equal(first, np.arange(60).reshape(5, 3, 4)[:3, :, 1:])
    np.testing.assert_array_equal(later(), np.arange(60).reshape(5, 3, 4))  # bfloat16 has whole numbers up to 256


def test_a_device_without_streams_has_plain_copies():
    assert isinstance(copies_of(torch.device("cpu")), PlainCopies)
    assert isinstance(copies_of(torch.device("meta")), PlainCopies)


@pytest.fixture
def mixed_sizes(make_data, make_crops):
    """Videos whose frames have three sizes, in no order."""
    root = make_data({"a": 13, "b": 1, "c": 9})
    for number, size in ((2, 48), (3, 200), (7, 48), (13, 200)):
        make_crops(root / "cropped_aligned/a", [number], seed=9, size=size)
    return root


@pytest.fixture(scope="module")
def features() -> list[Feature]:
    torch.manual_seed(0)
    hog, spec = (
        create_backbone("hog"),
        BackboneSpec("conv", "conv", "values", "vision", (5,), "a convolution", UNTRAINED, ImageInput(32)),
    )
    conv = Backbone(Built(Convolution(), (spec,)))
    return [Feature("hog", hog, hog.spec), Feature("conv", conv, spec), Feature("conv@hflip", conv, spec, "hflip")]


def extract(root, features, store, batch_size, prepare=lambda runner: None) -> Summary:
    opened = FeatureStore.create(store)
    for feature in features:
        opened.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
    dataset = open_dataset(root)
    running = Runner(opened, features, batch_size)
    prepare(running)
    return running.run(dataset.open(video) for video in dataset.videos)


def test_streams_give_the_features_of_the_plain_loop(mixed_sizes, features, monkeypatch, tmp_path):
    assert extract(mixed_sizes, features, tmp_path / "plain.zarr", 4).ok
    up, down = LateStream(), LateStream()
    monkeypatch.setattr(runner, "copies_of", lambda device: StreamedCopies(up, down))
    assert extract(mixed_sizes, features, tmp_path / "streams.zarr", 4).ok
    assert_equal_stores(tmp_path / "streams.zarr", tmp_path / "plain.zarr")
    assert down.n_pinned == 3 * 2 and len(down.events) == 3 * 6  # three features; two batches in flight, of six


class ShortOfMemory:
    """Makes a runner short of memory for more than `most` frames at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.sizes = most, []

    def __call__(self, running: Runner) -> None:
        plain = running._model_input

        def model_input(feature, images):
            inputs = plain(feature, images)
            self.sizes.append(len(inputs))
            if len(inputs) > self.most:
                raise torch.OutOfMemoryError("2 GiB wanted")
            return inputs

        running._model_input = model_input


def test_a_batch_that_is_too_large_is_halved(mixed_sizes, features, tmp_path):
    assert extract(mixed_sizes, features[:1], tmp_path / "plain.zarr", 16).ok
    short = ShortOfMemory(5)
    summary = extract(mixed_sizes, features[:1], tmp_path / "halved.zarr", 16, short)
    assert summary.ok and summary.n_frames == 23
    assert short.sizes == [16, 8, 4, 4, 4, 4, 4, 4]  # 16 frames and 7
    assert [sentence.rpartition(" Use ")[2] for sentence in summary.warnings] == ["--batch-size 8.", "--batch-size 4."]
    assert_equal_stores(tmp_path / "halved.zarr", tmp_path / "plain.zarr")


def test_shares_of_time(mixed_sizes, features, monkeypatch, tmp_path):
    clock = iter(range(100))
    monkeypatch.setattr("abaw.extract.waits.perf_counter", lambda: float(next(clock)))
    waits = Waits()
    assert list(waits.each(WRITE, waits.each(DECODE, "ab"))) == ["a", "b"]  # 3 times 3 ticks, 1 of them inside
    assert waits.seconds == {DECODE: 3, WRITE: 6}
    with waits.waiting_for(NETWORK), pytest.raises(ZeroDivisionError), waits.waiting_for(DECODE):
        1 / 0  # noqa: B018
    assert waits.seconds == {DECODE: 4, WRITE: 6, NETWORK: 2}
    assert describe_shares({DECODE: 1, WRITE: 0.3, NETWORK: 98.7}) == "network 99 %, decode 1 %"
    assert describe_shares({}) == describe_shares({DECODE: 0.0}) == ""


def test_a_copy_stream_has_what_the_late_one_has():
    """The class that runs on a GPU alone has the methods that the tests above replace."""
    names = {name for name in vars(CopyStream) if not name.startswith("_")}
    assert (
        names == {name for name in vars(LateStream) if not name.startswith("_")} == {"pinned", "to_device", "to_host"}
    )
    for name in ("wait_stream", "wait_event"):
        assert callable(getattr(torch.cuda.Stream, name))
    assert callable(torch.Tensor.record_stream) and callable(torch.cuda.Event.synchronize)
