"""Running networks over frames: reader -> networks -> store. Videos share full batches; each is written whole.

Threads decode ahead of the model, results leave the device while the next batch runs, and one thread writes. Memory is
bounded by the batch size and one shard per video in progress, whatever the length of the videos.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from os import cpu_count

import numpy as np
import torch
from numpy.typing import NDArray

from abaw.backbones.spec import ImageInput
from abaw.backbones.vision.preprocess import apply_view
from abaw.backbones.vision.views import HFLIP
from abaw.core.progress import Stop, Summary
from abaw.datasets.frames import FrameSource
from abaw.extract.feature import Feature
from abaw.extract.reader import BATCHES_AHEAD, Batcher, DecodedFrames, FrameBatch, read_frames
from abaw.extract.sink import FeatureSink, Stopped
from abaw.store import FeatureStore

MAX_DECODERS = 16  # threads


class Runner:
    """Runs networks over the frames of videos and writes the features.

    Args:
        store: receives the features.
        features: to make; those of one backbone share its forward pass.
        batch_size: frames in a batch, of any sizes. The input of a network is always padded to it, so that the feature
            of a frame does not depend on the other frames in the batch, and a resumed run gives identical numbers.
        on_frames: called with the number of frames finished, for a progress bar.
    """

    def __init__(
        self,
        store: FeatureStore,
        features: Sequence[Feature],
        batch_size: int,
        on_frames: Callable[[int], None] = lambda n: None,
    ) -> None:
        self._store, self._features = store, features
        self._batch_size = batch_size
        self._on_frames = on_frames
        self._summary = Summary()
        self._sink = FeatureSink(store, features, self._summary)

    def run(self, sources: Iterable[FrameSource]) -> Summary:
        """Extract all features of all sources. An error in a video ends only that video; see `Summary`."""
        n_threads = max(2, min(MAX_DECODERS, cpu_count() or 2))
        decoded = read_frames(self._sink.opened(sources), n_threads, BATCHES_AHEAD * self._batch_size)
        try:
            with closing(decoded):
                self._run(decoded)
        except Stopped:
            pass  # closing the sink sets the reason
        except KeyboardInterrupt:
            self._summary.stopped = Stop.interrupted()
        except torch.OutOfMemoryError as error:
            self._summary.stopped = Stop(
                "out of memory",
                f"no memory left on the device at {self._batch_size} frames a batch; use a smaller --batch-size ({error})",
            )
        except torch.AcceleratorError as error:
            self._summary.stopped = Stop.of_device(error)
        finally:
            self._sink.close()
        return self._summary

    def _run(self, decoded: Iterable[DecodedFrames]) -> None:
        batcher = Batcher(self._batch_size)
        in_flight: list[tuple[FrameBatch, list[HostCopy]]] = []
        for frames in decoded:
            self._sink.skip(frames.source, frames.broken)
            for batch in batcher.add(frames):
                self._step(batch, in_flight)
        for batch in batcher.rest():
            self._step(batch, in_flight)
        for batch, copies in in_flight:
            self._hand_over(batch, copies)

    def _step(self, batch: FrameBatch, in_flight: list[tuple[FrameBatch, list["HostCopy"]]]) -> None:
        """Start a batch, then fetch the results of the one before, so that the device never waits."""
        in_flight.append((batch, self._forward(batch)))
        if len(in_flight) > 1:
            self._hand_over(*in_flight.pop(0))

    def _forward(self, batch: FrameBatch) -> list["HostCopy"]:
        images = [self._pinned(torch.from_numpy(group)) for group in batch.images]
        keys = [(source.name, row + 1) for source, rows in batch.parts for row in rows.tolist()]
        keys += keys[-1:] * (self._batch_size - len(keys))
        inputs: dict[tuple[bool, ImageInput | None, str], torch.Tensor] = {}
        outputs: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
        copies = []
        for feature in self._features:
            backbone, spec = feature.backbone, feature.spec
            # masked views take the plain images: patches are hidden inside the network
            input_key = (feature.view == HFLIP, spec.image, backbone.precision)
            if input_key not in inputs:
                inputs[input_key] = self._model_input(feature, images)
            output_key = (id(backbone), feature.view)
            if output_key not in outputs:
                result = backbone(inputs[input_key], feature.view, keys)
                outputs[output_key] = result if isinstance(result, dict) else {backbone.spec.name: result}
            copies.append(HostCopy(outputs[output_key][spec.name][: batch.n_frames]))
        return copies

    def _model_input(self, feature: Feature, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Model input from images grouped by size, padded to the batch size with the last image."""
        backbone, view = feature.backbone, feature.view
        prepared = [backbone.preprocess(apply_view(group.to(backbone.device), view)) for group in images]
        if len(prepared[0]) == self._batch_size:
            return prepared[0]
        shape = (self._batch_size, *prepared[0].shape[1:])
        first = prepared[0]
        filled = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last)
        start = 0
        for group in prepared:
            filled[start : start + len(group)] = group
            start += len(group)
        filled[start:] = filled[start - 1]
        return filled

    def _pinned(self, images: torch.Tensor) -> torch.Tensor:
        """The images in pinned memory if a GPU is used."""
        on_gpu = any(feature.backbone.device.type == "cuda" for feature in self._features)
        return images.pin_memory() if on_gpu else images

    def _hand_over(self, batch: FrameBatch, copies: list["HostCopy"]) -> None:
        self._sink.write(batch, [copy.numpy() for copy in copies])
        self._summary.n_frames += batch.n_frames
        self._on_frames(batch.n_frames)


class HostCopy:
    """An asynchronous copy of a device tensor to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        tensor = tensor.detach().float()
        self._event: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._host = tensor.cpu()

    def numpy(self) -> NDArray[np.float32]:
        """Wait for the copy and return it."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()
