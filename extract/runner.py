"""Running networks over frames: reader -> networks -> store. Videos share full batches; each is written whole.

Threads decode ahead of the model, images reach a GPU and results leave it while it computes, and one thread writes. Memory is
bounded by the batch size and one shard per video in progress, whatever the length of the videos.
"""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from os import cpu_count

import torch

from abaw.backbones.spec import ImageInput
from abaw.backbones.vision.preprocess import apply_view
from abaw.backbones.vision.views import HFLIP
from abaw.core.devices import one_thread
from abaw.core.errors import first_line
from abaw.core.progress import OnFrames, Silent, Stop, Summary
from abaw.datasets.crop_quality import FaceTables
from abaw.datasets.frames import FrameSource
from abaw.extract.device_copies import Fetch, copies_of
from abaw.extract.feature import Feature
from abaw.extract.follow_ahead import are_light, follow_ahead
from abaw.extract.people_sink import PeopleSink
from abaw.extract.reader import BATCHES_AHEAD, Batcher, DecodedFrames, FrameBatch, read_frames
from abaw.extract.sink import FeatureSink, Stopped
from abaw.extract.waits import DECODE, DETECT, NETWORK, WRITE, Waits, describe_shares
from abaw.store import FeatureStore

MAX_DECODERS = 16  # threads


class Runner:
    """Runs networks over the frames of videos and writes the features.

    Args:
        store: receives the features.
        features: to make, on one device; those of one backbone share its forward pass.
        batch_size: frames in a batch, of any sizes. The input of a network is always padded to it, so that the feature
            of a frame does not depend on the other frames in the batch, and a resumed run gives identical numbers. It
            is halved whenever the device has no memory for it.
        on_frames: called with the number of frames finished, and where the time goes, for a progress bar.
        follows: the sources are videos whose faces are followed, see `abaw.extract.follow_ahead`.
        faces: tables with the quality of crops.
    """

    def __init__(
        self,
        store: FeatureStore,
        features: Sequence[Feature],
        batch_size: int,
        on_frames: OnFrames | None = None,
        follows: bool = False,
        faces: FaceTables | None = None,
    ) -> None:
        self._store, self._features = store, features
        self._batch_size = batch_size
        self._on_frames = on_frames or Silent().advance
        self._copies = copies_of(features[0].backbone.device)
        self._in_flight: deque[tuple[FrameBatch, list[Fetch]]] = deque()
        self._waits = Waits()
        self._summary = Summary()
        self._people = PeopleSink(store, features, self._summary) if follows else None
        self._sink = self._people or FeatureSink(store, features, self._summary, faces)

    def run(self, sources: Iterable[FrameSource]) -> Summary:
        """Extract all features of all sources. An error in a video ends only that video; see `Summary`."""
        try:
            with closing(self._decoded(self._sink.opened(sources))) as decoded:
                self._run(decoded)
        except Stopped:
            pass  # closing the sink sets the reason
        except KeyboardInterrupt:
            self._summary.stopped = Stop.interrupted()
        except torch.OutOfMemoryError as error:
            self._summary.stopped = Stop(
                "out of memory",
                "no memory left on the device, not even for one frame at a time; end other programs on it, or choose "
                f"another --device ({first_line(error)})",
            )
        except torch.AcceleratorError as error:
            self._summary.stopped = Stop.of_device(error)
        finally:
            with self._waits.waiting_for(WRITE):
                self._sink.close()
        self._summary.waited_s = self._waits.seconds
        return self._summary

    def _decoded(self, sources: Iterable[FrameSource]) -> Generator[DecodedFrames, None, None]:
        """The frames of the sources, ahead of their use."""
        if self._people is not None:
            return self._followed(self._people, sources)
        n_threads = max(2, min(MAX_DECODERS, cpu_count() or 2))
        return read_frames(sources, n_threads, BATCHES_AHEAD * self._batch_size)

    def _followed(self, sink: PeopleSink, sources: Iterable[FrameSource]) -> Generator[DecodedFrames, None, None]:
        """The faces in the videos; progress counts their frames, with and without faces."""
        light = are_light(feature.backbone for feature in self._features)
        with one_thread(light), closing(follow_ahead(sources)) as parts:
            for part in parts:
                sink.count(part)
                self._on_frames(part.n_pictures, describe_shares(self._waits.seconds))
                yield part

    def _run(self, decoded: Iterable[DecodedFrames]) -> None:
        batcher = Batcher(self._batch_size)
        for frames in self._waits.each(DECODE if self._people is None else DETECT, decoded):
            with self._waits.waiting_for(WRITE):
                self._sink.note_decoder(frames.source, frames.n_by_processor)
                self._sink.skip(frames.source, frames.broken)
            for batch in batcher.add(frames):
                self._step(batch)
        for batch in batcher.rest():
            self._step(batch)
        self._hand_over(n_left=0)

    def _step(self, batch: FrameBatch) -> None:
        """Start a batch, then fetch the results of the one before, so that the device never waits."""
        left = deque([batch])
        while left:
            piece, *others = left.popleft().split(self._batch_size)
            left.extendleft(reversed(others))
            fetches = self._start(piece)
            if fetches is None:
                self._halve_batch()
                left.appendleft(piece)
            else:
                self._in_flight.append((piece, fetches))
                self._hand_over(n_left=1)

    def _start(self, batch: FrameBatch) -> list[Fetch] | None:
        """Start a batch; None if the device has no memory for so many frames."""
        try:
            with self._waits.waiting_for(NETWORK):
                return self._forward(batch)
        except torch.OutOfMemoryError:
            if self._batch_size == 1:
                raise
        return None  # not from inside the block above, where the error keeps the tensors of the attempt

    def _halve_batch(self) -> None:
        self._hand_over(n_left=0)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        wanted, self._batch_size = self._batch_size, self._batch_size // 2
        self._summary.warnings.append(
            f"The device has no memory for {wanted} frames a batch: it was given {self._batch_size} from then on. "
            f"Use --batch-size {self._batch_size}."
        )

    def _forward(self, batch: FrameBatch) -> list[Fetch]:
        images = [self._copies.upload(group) for group in batch.images]
        keys = [(source.name, row + 1) for source, rows in batch.parts for row in rows.tolist()]
        keys += keys[-1:] * (self._batch_size - len(keys))
        inputs: dict[tuple[bool, ImageInput | None, str], torch.Tensor] = {}
        outputs: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
        fetches = []
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
            fetches.append(self._copies.download(outputs[output_key][spec.name][: batch.n_frames]))
        return fetches

    def _model_input(self, feature: Feature, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Model input from images grouped by size, padded to the batch size with the last image."""
        backbone, view = feature.backbone, feature.view
        prepared = [backbone.preprocess(apply_view(group, view)) for group in images]
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

    def _hand_over(self, n_left: int) -> None:
        """Give results to the sink, those of the oldest batch first, until `n_left` batches are in flight."""
        while len(self._in_flight) > n_left:
            batch, fetches = self._in_flight.popleft()
            with self._waits.waiting_for(NETWORK):
                results = [fetch() for fetch in fetches]
            with self._waits.waiting_for(WRITE):
                self._sink.write(batch, results)
            self._summary.n_frames += batch.n_frames
            if self._people is None:
                self._on_frames(batch.n_frames, describe_shares(self._waits.seconds))
