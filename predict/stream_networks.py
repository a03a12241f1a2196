"""What makes outputs of crops in a stream: the network that comes with the package, or a trained run with its networks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.backbones.vision.preprocess import apply_view
from abaw.backbones.vision.views import HFLIP
from abaw.core.errors import UsageError
from abaw.extract.feature import Feature
from abaw.predict.fer import FER, FerPredictor, as_outputs
from abaw.predict.input_files import PredictOptions
from abaw.predict.person_stream import Features, StreamNetwork
from abaw.predict.run_predictor import RunPredictor
from abaw.train.finetune.pixel_model import HeadOnFeatures, PixelModel
from abaw.train.runs import Run

PROBABILITIES = "probabilities"
OF_16_BITS = float(np.finfo(np.float16).max)


def open_stream_network(run: Run | None, options: PredictOptions, fps: float) -> StreamNetwork:
    """Load the networks of a run, or without one `fer`.

    Args:
        options: of these, `backbones`, `raw`, `untrained` and `device` are used here.
        fps: of the frames.

    Raises:
        AbawError: the run cannot predict faces, or needs what a stream does not have.
    """
    return FerStream(options, fps) if run is None else RunStream(run, options)


class FerStream:
    """`fer`, frame by frame, its probabilities averaged over time; see `StreamNetwork`."""

    task = FER
    window = stride = 1
    is_causal = True
    min_quality = 0.0

    def __init__(self, options: PredictOptions, fps: float) -> None:
        self._predictor = FerPredictor(options)
        self.note = self._predictor.note
        self._width = self._predictor.smoothing_width(fps)
        self.half = self._width // 2

    def embed(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `StreamNetwork`."""
        return {PROBABILITIES: self._predictor.probabilities(crops)}

    def head(self, features: Features, shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `StreamNetwork`."""
        return features[PROBABILITIES]

    def finish(self, values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `StreamNetwork`."""
        return as_outputs(values, present, self._width)


class RunStream:
    """A trained run with the networks of its features; see `StreamNetwork`.

    Raises:
        UsageError: it needs sound, other frames, or a whole video.
    """

    def __init__(self, run: Run, options: PredictOptions) -> None:
        predictor = RunPredictor(run, options)
        self.note = predictor.note
        self.task, self.window, self.stride = run.task, run.config.length, run.config.eval_step
        self.is_causal, self.min_quality = run.config.head.is_causal, run.config.min_quality
        self._features, tuning = predictor.networks, predictor.trained.tuning
        self._postprocess = tuning.postprocess if tuning else None
        _check(run, self._features, bool(self._postprocess and self._postprocess.levels))
        widths = [one.width for one in self._postprocess.smoothing.values()] if self._postprocess else []
        self.half = max([1, *widths]) // 2
        self._model, self._device = predictor.trained.loaded
        if isinstance(self._model, PixelModel):
            names, n_copies = {feature.name for feature in self._features}, len(self._model.heads)
            copies = [
                {name: f"{name}-{copy}" if f"{name}-{copy}" in names else name for name in run.config.features}
                for copy in range(n_copies)
            ]
            self._model = HeadOnFeatures(self._model, copies)
        self._model.eval()

    def embed(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `StreamNetwork`; values are rounded as in a store."""
        images, passes, values = torch.from_numpy(crops), {}, {}
        for feature in self._features:
            key = (id(feature.backbone), feature.view)
            if key not in passes:
                inputs = feature.backbone.preprocess(apply_view(images, feature.view))
                passes[key] = feature.backbone(inputs, feature.view)
            outputs = passes[key]
            own: Tensor = outputs if isinstance(outputs, Tensor) else outputs[feature.spec.name]
            exact: NDArray[np.float32] = own.float().cpu().numpy()
            is_short = feature.spec.dtype == "float16" and np.abs(exact).max(initial=0) <= OF_16_BITS
            values[feature.name] = exact.astype(np.float16).astype(np.float32) if is_short else exact
        return values

    def head(self, features: Features, shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `StreamNetwork`."""
        mask = torch.from_numpy(shown)[None].to(self._device)
        window = {name: torch.from_numpy(values)[None].to(self._device) for name, values in features.items()}
        with torch.inference_mode():
            outputs = self._model(window, dict.fromkeys(window, mask))[0, :, : len(self.task.outputs)]
        rows: NDArray[np.float32] = outputs.float().cpu().numpy()
        return rows

    def finish(self, values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `StreamNetwork`."""
        return self._postprocess.apply(self.task, values, present) if self._postprocess else values


def _check(run: Run, features: list[Feature], has_levels: bool) -> None:
    """Raise a UsageError for a run that a stream cannot feed."""
    for feature in features:
        if feature.spec.modality != "vision":
            raise UsageError(
                f"Run {run.name} takes feature {feature.name!r}, which is not made from pictures, and a stream has no more. "
                "Name a run on features of pictures, or predict the file without --stream."
            )
        if feature.view not in ("", HFLIP):
            raise UsageError(
                f"Run {run.name} takes feature {feature.name!r} of view {feature.view}, which a stream does not have. Name a "
                "run on plain features."
            )
    if has_levels:
        raise UsageError(
            f"The post-processing of run {run.name} takes the mean of each person over a whole video, which a stream does not "
            "have. Leave it out with --raw."
        )
    if run.config.missing != "mask":
        raise UsageError(
            f"Run {run.name} fills missing frames from later ones (missing={run.config.missing}), which a stream does not "
            "have. Name a run with missing=mask."
        )
