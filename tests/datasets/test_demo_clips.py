"""The demos of clips and scenes have their layouts: each is read as the task's own, with labels of both splits."""

from pathlib import Path

import pytest

from abaw.core.tasks import TASKS
from abaw.datasets.demo import demo_vgaf, film_plan
from abaw.datasets.demo.kinds import DEMO_KINDS
from abaw.datasets.layouts import open_dataset
from abaw.evaluate.submission.formats import Sample
from abaw.evaluate.submission.sample_files import read_sample

WANTED = {
    "ah": ({"train": 2, "val": 1}, "100_Question_1_2024-11-13_Video"),
    "vd": ({"train": 2, "val": 1}, "0001"),
    "emi": ({"train": 2, "val": 1}, "00000"),
    "mer": ({"train": 3}, "sample00000000"),
    "engagement": ({"train": 2, "val": 1}, "subject_0"),
}


@pytest.mark.parametrize("kind", WANTED)
def test_demo_of(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo_vgaf.SIZES, "tiny", demo_vgaf.GroupSize(2, 1, 0.12))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    n_drawn: list[int] = []
    DEMO_KINDS[kind].write(tmp_path / "data", "tiny", 0, on_frames=n_drawn.append)
    assert sum(n_drawn) == DEMO_KINDS[kind].n_frames("tiny", 0) == 9
    dataset = open_dataset(tmp_path / "data")
    counts, first = WANTED[kind]
    tasks = {label.task for label in dataset.labels}
    assert tasks == {kind, "ah-frames"} if kind == "ah" else tasks == {kind}
    for task in tasks:
        splits = [label.split for label in dataset.labels if label.task == task]
        assert {split: splits.count(split) for split in splits} == counts
    assert dataset.videos[0].name == first and not [remark for remark in dataset.remarks if remark.is_error]
    rows = {label.video: label.read().tolist() for label in dataset.labels if label.task == kind}
    if kind == "ah":
        frames = {label.video: label.read().tolist() for label in dataset.labels if label.task != kind}
        assert frames == {video: of_video * 3 for video, of_video in rows.items()}
    if kind == "vd":  # its second video turns negative after half of its three frames
        assert rows["0002"] == [[0], [1], [1]] and rows["0001"] == [[0], [0], [0]]
    elif kind == "mer":
        assert [row[0][0] for row in rows.values()] == [2, 0, 2]  # happy, neutral, and happy again in the other split
    assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.name.startswith(".")) == []


def test_demo_of_compound_expressions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of basic expressions alone, and a sample that lists the crops of the validation videos."""
    monkeypatch.setitem(film_plan.SIZES, "tiny", film_plan.DemoSize(1, 1, 12, 8))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    DEMO_KINDS["ce"].write(tmp_path / "data", "tiny", 0, on_frames=lambda n: None)
    dataset = open_dataset(tmp_path / "data")
    assert {label.task for label in dataset.labels} == {"expr"}
    (video,) = [label.video for label in dataset.labels if label.split == "val"]
    sample = read_sample(tmp_path / "data" / "CE_sample.txt")
    assert isinstance(sample, Sample) and sample.task == TASKS["ce"]
    crops = sorted(path.name for path in (tmp_path / "data" / "cropped_aligned" / video).iterdir())
    assert list(sample.images) == [f"{video}/{name}" for name in crops]
