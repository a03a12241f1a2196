"""How much of the labels the tables of another program answer, and what was assumed to score them."""

from dataclasses import dataclass
from typing import Any

RULE = (
    "The first scores are over all labelled frames: one without a prediction takes that of the nearest frame of its video, "
    "and a video without any takes the mean of all predictions."
)


@dataclass(frozen=True)
class TableCoverage:
    """What tables answer of a split.

    Attributes:
        program: that wrote the tables.
        n_labelled: labelled frames.
        n_predicted: those with a prediction of their own.
        n_videos: videos with labels.
        absent: those of them that no table has.
        notes: what was assumed, in sentences.
    """

    program: str
    n_labelled: int
    n_predicted: int
    n_videos: int
    absent: tuple[str, ...]
    notes: tuple[str, ...]

    def sentences(self) -> list[str]:
        """What is covered, the rule of the scores, and what was assumed."""
        share = self.n_predicted / max(1, self.n_labelled)
        lines = [
            f"{self.program}: {self.n_predicted:,} of {self.n_labelled:,} labelled frames have a prediction ({share:.1%})."
        ]
        if self.n_predicted < self.n_labelled:
            lines.append(RULE)
        if self.absent:
            listed = ", ".join(self.absent[:3]) + (" ..." if len(self.absent) > 3 else "")
            lines.append(f"{len(self.absent)} of {self.n_videos} labelled videos have no predictions: {listed}.")
        return [*lines, *self.notes]

    def as_json(self) -> dict[str, Any]:
        """All attributes, and the rule of the scores."""
        return {
            "program": self.program,
            "labelled_frames": self.n_labelled,
            "with_prediction": self.n_predicted,
            "videos_without_predictions": list(self.absent),
            "rule": RULE,
            "notes": list(self.notes),
        }
