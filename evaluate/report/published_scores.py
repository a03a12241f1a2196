"""Scores that others published, by the measure of the task, for comparison."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Published:
    """One published score.

    Attributes:
        task: name of the task.
        source: the authors, and how they got it.
        split: `V` for the official validation set, `T` for the hidden test set.
        score: as published; two numbers for a range or a pair.
    """

    task: str
    source: str
    split: Literal["V", "T"]
    score: str


PUBLISHED: tuple[Published, ...] = (
    Published("va", "Baseline of the challenge", "V", "0.22 to 0.24"),
    Published("va", "HSEmotion, as predicted", "V", "0.502"),
    Published("va", "HSEmotion, box filter over 101 frames", "V", "0.568"),
    Published("va", "Situ-RUCAIM3 2022", "V", "0.656 / 0.709"),
    Published("va", "Fuxi 2023", "T", "0.637"),
    Published("expr", "Baseline of the challenge", "V", "0.23"),
    Published("expr", "HSEmotion, as predicted", "V", "0.384"),
    Published("expr", "HSEmotion, box filter over 101 frames", "V", "0.432"),
    Published("expr", "HSEmotion, best", "V", "0.447"),
    Published("expr", "Fuxi 2023", "T", "0.412"),
    Published("au", "Baseline of the challenge", "V", "0.39"),
    Published("au", "HSEmotion, thresholds of one half", "V", "0.491"),
    Published("au", "HSEmotion, a threshold for each unit", "V", "0.515"),
    Published("au", "HSEmotion, box filter over 41 frames", "V", "0.530"),
    Published("au", "Fuxi 2023", "T", "0.555"),
    Published("mtl", "Baseline of the challenge", "V", "0.32"),
    Published("mtl", "HSEmotion, as predicted", "V", "1.313"),
    Published("mtl", "HSEmotion, smoothed", "V", "1.456"),
    Published("mtl", "HSEmotion, smoothed, a threshold for each unit", "V", "1.481"),
    Published("mtl", "Winner of 2024", "T", "1.529"),
    Published("vgaf", "Augusma et al. 2023 (winner of EmotiW)", "V", "0.792"),
    Published("vgaf", "Augusma et al. 2023 (winner of EmotiW)", "T", "0.751"),
)


def published_for(task: str) -> tuple[Published, ...]:
    """The published scores of a task; empty if we know of none."""
    return tuple(published for published in PUBLISHED if published.task == task)
