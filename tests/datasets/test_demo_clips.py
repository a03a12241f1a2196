"""The demos of clips and scenes have their layouts: each is read as the task's own, with labels of both splits."""

from pathlib import Path

import pytest

from abaw.datasets.demo import demo_vgaf
from abaw.datasets.demo.kinds import DEMO_KINDS
from abaw.datasets.layouts import open_dataset

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
    splits = [label.split for label in dataset.labels]
    assert {split: splits.count(split) for split in splits} == counts
    assert {label.task for label in dataset.labels} == {kind} and dataset.videos[0].name == first
    assert not [remark for remark in dataset.remarks if remark.is_error]
    rows = {label.video: label.read().tolist() for label in dataset.labels}
    if kind == "vd":  # its second video turns negative after half of its three frames
        assert rows["0002"] == [[0], [1], [1]] and rows["0001"] == [[0], [0], [0]]
    elif kind == "mer":
        assert [row[0][0] for row in rows.values()] == [2, 0, 2]  # happy, neutral, and happy again in the other split
    assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.name.startswith(".")) == []
