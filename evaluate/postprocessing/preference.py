"""The answer of a confident classifier: where stored logits are sure of a class, they replace the answer of a run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from abaw.core.errors import StoreError, UsageError
from abaw.core.expressions import plain_expression
from abaw.core.tasks import Task
from abaw.evaluate.predictions import Confident, VideoPrediction
from abaw.store import FeatureStore

LEAST = 1e-6  # probabilities are at least this much, so that their logarithms are finite


class Preference(BaseModel):
    """Logits of a classifier, and how sure it must be.

    Attributes:
        feature: name of the stored logits.
        above: the probability of its likeliest class above which its answer is taken.
        fingerprint: of the feature.
        classes: for each value of the feature the class of the task with its name; empty where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: str
    above: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    fingerprint: str = ""
    classes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, task: Task, text: str) -> "Preference":
        """Read `FEATURE>PROBABILITY`; `found_in` adds what a store knows about the feature.

        Raises:
            UsageError: the text is something else, or the task has no classes of single frames.
        """
        feature, above, number = (word.strip() for word in text.rpartition(">"))
        try:
            probability = float(number)
        except ValueError:
            probability = 0.0
        if not above or not feature or not 0 < probability < 1:
            raise UsageError(
                f"--prefer needs FEATURE>PROBABILITY in quotes, such as 'fer-logits>0.85'; found {text!r}."
            )
        if task.level == "video" or not task.outputs_of("classes"):
            raise UsageError(f"--prefer is for classes of frames, which task {task.name} does not have. Leave it out.")
        return cls(feature=feature, above=probability)

    def found_in(self, store: FeatureStore, task: Task) -> "Preference":
        """With the fingerprint of the feature in a store, and its classes by the names of those of a task.

        Raises:
            UsageError: the store lacks the feature, it is not logits of named classes, or the task has none of these.
        """
        attrs = store.feature_attrs(self.feature)
        names = tuple(map(str, attrs["spec"].get("classes") or ()))
        if len(names) != int(np.prod(attrs["spec"]["shape"])) or not names:
            raise UsageError(
                f"Feature {self.feature!r} is not logits of named classes, such as fer-logits. Choose another."
            )
        outputs = {plain_expression(name): name for name in task.outputs_of("classes")}
        classes = tuple(outputs.get(plain_expression(name), "") for name in names)
        if not any(classes):
            raise UsageError(
                f"Feature {self.feature!r} has none of the classes of task {task.name}: it has {', '.join(names)}. Choose "
                "another."
            )
        return self.model_copy(update={"fingerprint": str(attrs["fingerprint"]), "classes": classes})

    def attach(self, store: FeatureStore, predictions: Mapping[str, VideoPrediction]) -> dict[str, VideoPrediction]:
        """The predictions with the classifier's probabilities next to them, NaN in frames without the feature.

        Raises:
            UsageError: the store lacks the feature.
            StoreError: it is another one than that of the fit, or damaged.
        """
        if store.feature_attrs(self.feature)["fingerprint"] != self.fingerprint:
            raise StoreError(
                f"Feature {self.feature!r} in {store.path} differs from the one that the post-processing prefers. Fit it "
                "again with `abaw tune`."
            )
        known = store.videos(self.feature)
        attached = {}
        for video, prediction in predictions.items():
            probabilities = np.full((len(prediction.outputs), len(self.classes)), np.nan, dtype=np.float32)
            if video in known:
                self._fill(probabilities, store, video)
            attached[video] = replace(prediction, confident=Confident(self.fingerprint, probabilities))
        return attached

    def _fill(self, probabilities: NDArray[np.float32], store: FeatureStore, video: str) -> None:
        from scipy.special import softmax  # takes a quarter of a second to import

        stored = store.read(self.feature, video)
        rows = np.flatnonzero(stored.present[: len(probabilities)])
        probabilities[rows] = softmax(stored.values[rows].reshape(len(rows), -1).astype(np.float64), axis=1)

    def apply(self, task: Task, prediction: VideoPrediction) -> NDArray[np.float32]:
        """The outputs of a video, with logarithms of the classifier's probabilities in the rows in which it is sure.

        A row keeps its outputs if the likeliest class is none of the task, or if it has no probabilities.

        Raises:
            UsageError: the prediction comes without this classifier's probabilities.
        """
        confident = prediction.confident
        is_same = confident is not None and confident.fingerprint == self.fingerprint
        if confident is None or not is_same or confident.probabilities.shape[1] != len(self.classes):
            raise UsageError(
                f"The saved predictions are without feature {self.feature!r}, which the post-processing prefers. Run `abaw "
                "eval` again, or leave out the post-processing with --raw."
            )
        outputs, probabilities = prediction.outputs.copy(), np.nan_to_num(confident.probabilities)
        has_class = np.array([bool(name) for name in self.classes])
        top = probabilities.argmax(axis=1)
        rows = (probabilities.max(axis=1) > self.above) & has_class[top]
        for name in task.outputs_of("classes"):
            likely = probabilities[rows, self.classes.index(name)] if name in self.classes else LEAST
            outputs[rows, task.outputs.index(name)] = np.log(np.maximum(likely, LEAST))
        return outputs
