"""Scores that others published, by the measure of the task, for comparison.

Read in the organisers' repositories, in the teams' papers and code.
"""

from dataclasses import dataclass
from typing import Literal

from abaw.core.errors import UsageError, did_you_mean

YEARS = {
    "3rd": ("ABAW 3, CVPR 2022", 2022),
    "4th": ("ABAW 4, ECCV 2022", 2022),
    "5th": ("ABAW 5, CVPR 2023", 2023),
    "6th": ("ABAW 6, CVPR 2024", 2024),
    "7th": ("ABAW 7, ECCV 2024", 2024),
    "8th": ("ABAW 8, CVPR 2025", 2025),
    "9th": ("ABAW 9, ICCV 2025", 2025),
    "10th": ("ABAW 10, CVPR 2026", 2026),
    "11th": ("ABAW 11, ECCV 2026", 2026),
    "EmotiW": ("EmotiW 2023", 2023),
    "notebooks": ("its notebooks", 2025),
    "py-feat": ("its manual", 2026),
}
SPLITS = {"V": "validation", "T": "hidden test", "P": "public test"}
FELL = (
    "Validation does not rank: from validation to the hidden test, the scores of the best teams of 2026 fell by .04 to "
    ".20."
)

ABAW10 = "arXiv 2605.27451"
ABAW11 = "affective-behavior-analysis-in-the-wild.github.io/11th"
HSEMOTION = "README of EmotiEffLib"
HSEMOTION10 = "arXiv 2603.12693"
JULY = "note of the team (arXiv, July 2026)"
CROPS = "over frames with a crop"
FUXI = "Netease Fuxi, 1st"
FUXI_PAPER = "paper of the team (CVPR workshops 2023)"


@dataclass(frozen=True)
class PublishedScore:
    """One published score.

    Attributes:
        task: name of the task.
        edition: of the challenge, or another origin: a key of `YEARS`.
        system: the authors, their rank where known, and how they got it.
        split: `V` for the official validation set, `T` for the hidden test set, `P` for a public test set.
        score: by the measure of the task, with the digits that are published; the lower end of a range.
        high: the upper end of a range; empty for a single score.
        source: where the score is published.
        protocol: what differs from the official protocol, or what else to know.
    """

    task: str
    edition: str
    system: str
    split: Literal["V", "T", "P"]
    score: str
    source: str
    protocol: str = ""
    high: str = ""

    @property
    def venue(self) -> str:
        """Edition and venue, such as `ABAW 10, CVPR 2026`."""
        return YEARS[self.edition][0]

    @property
    def year(self) -> int:
        """Year of the edition."""
        return YEARS[self.edition][1]

    @property
    def numbers(self) -> str:
        """`0.502`, or `0.593 to 0.609` for a range."""
        return f"{self.score} to {self.high}" if self.high else self.score


# the newest edition of each task first
PUBLISHED: tuple[PublishedScore, ...] = (
    PublishedScore("va", "10th", "RAS, 1st", "V", "0.658", "arXiv 2603.13056"),
    PublishedScore("va", "10th", "RAS, 1st", "T", "0.62", ABAW10),
    PublishedScore("va", "10th", "RAS, 1st, its face alone", "V", "0.619", "arXiv 2603.13056"),
    PublishedScore("va", "10th", "RAS, 1st, its face alone", "T", "0.54", ABAW10),
    PublishedScore("va", "10th", "EmoDX", "T", "0.58", ABAW10),
    PublishedScore("va", "10th", "IMLAB", "T", "0.53", ABAW10),
    PublishedScore("va", "10th", "HSEmotion", "V", "0.562", HSEMOTION10, CROPS),
    PublishedScore("va", "10th", "Baseline of the challenge", "V", "0.22", ABAW10),
    PublishedScore("va", "10th", "Baseline of the challenge", "T", "0.20", ABAW10),
    PublishedScore("va", "8th", "CLIP and TCN", "V", "0.587", "paper of the team (2025)"),
    PublishedScore("va", "8th", "Mamba-VA", "T", "0.458", "arXiv 2503.10104", "valence .504, arousal .412"),
    PublishedScore("va", "6th", "Random masking", "V", "0.32", "arXiv 2403.13731"),
    PublishedScore("va", "notebooks", "HSEmotion, as predicted", "V", "0.502", HSEMOTION, CROPS),
    PublishedScore("va", "notebooks", "HSEmotion, box filter over 101 frames", "V", "0.568", HSEMOTION, CROPS),
    PublishedScore("va", "5th", FUXI, "T", "0.637", FUXI_PAPER),
    PublishedScore("va", "5th", "Baseline of the challenge", "V", "0.22", "papers of the challenge", high="0.24"),
    PublishedScore("va", "3rd", "Situ-RUCAIM3", "V", "0.682", "arXiv 2203.13032", "valence .656, arousal .709"),
    PublishedScore(
        "va",
        "py-feat",
        "py-feat 2, Detectorv2",
        "V",
        "0.826",
        "py-feat.org",
        "valence .852, arousal .799; not comparable: protocol not stated",
    ),
    PublishedScore("expr", "10th", "EagleonPamir1, 1st", "V", "0.537", ABAW10, "mean of five folds .512"),
    PublishedScore("expr", "10th", "EagleonPamir1, 1st", "T", "0.391", ABAW10),
    PublishedScore("expr", "10th", "HSEmotion", "V", "0.474", HSEMOTION10, CROPS),
    PublishedScore("expr", "10th", "HSEmotion", "T", "0.386", ABAW10),
    PublishedScore("expr", "10th", "USTC-IAT", "T", "0.36", ABAW10),
    PublishedScore("expr", "10th", "Baseline of the challenge", "V", "0.25", ABAW10),
    PublishedScore("expr", "10th", "Baseline of the challenge", "T", "0.225", ABAW10),
    PublishedScore("expr", "6th", "Random masking", "V", "0.29", "arXiv 2403.13731"),
    PublishedScore("expr", "notebooks", "HSEmotion, as predicted", "V", "0.384", HSEMOTION, CROPS),
    PublishedScore("expr", "notebooks", "HSEmotion, box filter over 101 frames", "V", "0.432", HSEMOTION, CROPS),
    PublishedScore("expr", "notebooks", "HSEmotion, best", "V", "0.447", HSEMOTION, CROPS),
    PublishedScore("expr", "5th", FUXI, "T", "0.412", FUXI_PAPER),
    PublishedScore("expr", "3rd", "Baseline of the challenge", "V", "0.23", "papers of the challenge"),
    PublishedScore("au", "10th", "USTC-IAT, 1st", "T", "0.51", ABAW10),
    PublishedScore("au", "10th", "HSEmotion", "V", "0.547", HSEMOTION10, CROPS),
    PublishedScore("au", "10th", "HSEmotion", "T", "0.49", ABAW10),
    PublishedScore("au", "10th", "Baseline of the challenge", "V", "0.39", ABAW10),
    PublishedScore("au", "10th", "Baseline of the challenge", "T", "0.365", ABAW10),
    PublishedScore("au", "8th", "CLIP and TCN", "V", "0.580", "paper of the team (2025)"),
    PublishedScore("au", "6th", "Random masking", "V", "0.40", "arXiv 2403.13731"),
    PublishedScore("au", "notebooks", "HSEmotion, thresholds of one half", "V", "0.491", HSEMOTION, CROPS),
    PublishedScore("au", "notebooks", "HSEmotion, a threshold for each unit", "V", "0.515", HSEMOTION, CROPS),
    PublishedScore("au", "notebooks", "HSEmotion, box filter over 41 frames", "V", "0.530", HSEMOTION, CROPS),
    PublishedScore("au", "5th", FUXI, "T", "0.555", FUXI_PAPER),
    PublishedScore("mtl", "11th", "CPR", "V", "1.679", JULY, "chosen on validation"),
    PublishedScore("mtl", "11th", "Sun and Gao", "V", "1.634", JULY),
    PublishedScore("mtl", "11th", "HSEmotion", "V", "1.56", JULY),
    PublishedScore("mtl", "11th", "Baseline of the challenge", "V", "0.45", ABAW11),
    PublishedScore("mtl", "7th", "Winner", "T", "1.529", "papers of the challenge"),
    PublishedScore("mtl", "7th", "HSEmotion, as predicted", "V", "1.313", HSEMOTION),
    PublishedScore("mtl", "7th", "HSEmotion, smoothed", "V", "1.456", HSEMOTION),
    PublishedScore("mtl", "7th", "HSEmotion, smoothed, a threshold for each unit", "V", "1.481", HSEMOTION),
    PublishedScore("mtl", "7th", "Baseline of the challenge", "V", "0.32", "papers of the challenge"),
    PublishedScore("mtl", "4th", "Baseline of the challenge", "V", "0.30", "papers of the challenge"),
    PublishedScore("lsd", "4th", "HSEmotion", "V", "0.593", HSEMOTION, high="0.609"),
    PublishedScore("vgaf", "EmotiW", "Augusma et al., 1st", "V", "0.792", "arXiv 2312.05265"),
    PublishedScore("vgaf", "EmotiW", "Augusma et al., 1st", "T", "0.751", "arXiv 2312.05265"),
    PublishedScore("vgaf", "EmotiW", "HSEmotion, faces alone", "V", "0.711", HSEMOTION),
    PublishedScore("ah", "11th", "RAS", "T", "0.782", JULY),
    PublishedScore("ah", "11th", "TellTale, text alone", "T", "0.736", JULY),
    PublishedScore("ah", "11th", "PUCPR", "P", "0.722", JULY),
    PublishedScore("ah", "10th", "VisPBF", "T", "0.727", ABAW10),
    PublishedScore("ah", "10th", "Fennec", "T", "0.715", ABAW10),
    PublishedScore("ah", "10th", "LEYA", "T", "0.714", "arXiv 2603.12848"),
    PublishedScore("ah", "10th", "Baseline of the challenge", "T", "0.343", ABAW10),
    PublishedScore("vd", "10th", "HSEmotion", "V", "0.783", HSEMOTION10),
    PublishedScore("vd", "10th", "HSEmotion", "T", "0.587", ABAW10),
    PublishedScore("vd", "10th", "Baseline of the challenge", "V", "0.640", ABAW10),
    PublishedScore("vd", "10th", "Baseline of the challenge", "T", "0.504", ABAW10),
    PublishedScore("emi", "10th", "USTC-IAT", "T", "0.708", ABAW10),
    PublishedScore("emi", "10th", "CASIA26", "V", "0.479", "arXiv 2603.13760"),
    PublishedScore("emi", "10th", "CASIA26", "T", "0.674", ABAW10),
    PublishedScore("emi", "10th", "MimicMetric", "V", "0.472", "arXiv 2605.21869"),
    PublishedScore("emi", "10th", "MimicMetric", "T", "0.57", "arXiv 2605.21869"),
    PublishedScore("emi", "10th", "Baseline of the challenge", "T", "0.27", ABAW10),
    PublishedScore("ce", "9th", "RAS, zero-shot", "T", "0.349", "paper of the team (2025)"),
)


def list_published(task: str | None = None) -> list[PublishedScore]:
    """The published scores of a task, or of all.

    Raises:
        UsageError: no score of this task is known.
    """
    tasks = list(dict.fromkeys(one.task for one in PUBLISHED))
    if task is not None and task not in tasks:
        raise UsageError(
            f"No published scores of task {task!r} are known. {did_you_mean(task, tasks)}Choose one of: {', '.join(tasks)}."
        )
    return list(PUBLISHED if task is None else published_for(task))


def published_for(task: str) -> tuple[PublishedScore, ...]:
    """The published scores of a task, the newest edition first; empty if none are known."""
    return tuple(published for published in PUBLISHED if published.task == task)
