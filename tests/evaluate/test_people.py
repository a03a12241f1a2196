"""People named in labels: intervals, folds and warnings draw them whole, from label files to scores."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from abaw.core.errors import DataError
from abaw.core.people import person_in_name
from abaw.core.tasks import TASKS, Task, get_task
from abaw.datasets.layouts import open_dataset
from abaw.datasets.named_people import with_people
from abaw.evaluate.combining import combine
from abaw.evaluate.predictions import VideoPrediction, load_predictions, save_predictions
from abaw.evaluate.scores.bootstrap import difference, interval, n_units, noun_of_units
from abaw.exchange.importer import ImportOptions, import_features
from abaw.store import FeatureStore
from abaw.store.label_arrays import VideoLabels
from abaw.train.data.folds import assign_folds, group_videos
from abaw.train.data.table import select_labels, take_split

Predictions = dict[str, VideoPrediction]


def of_people(task: Task, n_people: int = 12, seed: int = 0) -> Predictions:
    """One to three videos of each person, who differ in how far outputs are off."""
    rng = np.random.default_rng(seed)
    found = {}
    for person in range(n_people):
        offset = rng.normal(0, 0.5)
        for number in range(rng.integers(1, 4)):
            n = 1 if task.level == "video" else int(rng.integers(5, 20))
            if task.kind == "regression":
                labels = rng.uniform(-1, 1, (n, len(task.columns))).clip(task.low, task.high)
                outputs = (labels + offset + rng.normal(0, 0.3, labels.shape)).clip(task.low, task.high)
            else:
                labels = rng.integers(0, len(task.outputs), (n, 1))
                outputs = rng.normal(offset, 1, (n, len(task.outputs))) + (labels == np.arange(len(task.outputs)))
            arrays = outputs.astype(np.float32), labels.astype(np.float32), np.ones(n, dtype=bool)
            found[f"v{person}-{number}"] = VideoPrediction(*arrays, 25.0, person=f"p{person}")
    return found


def joined(predictions: Predictions) -> Predictions:
    """One video for each person."""
    people: dict[str, list[VideoPrediction]] = {}
    for video in predictions.values():
        people.setdefault(video.person, []).append(video)
    return {
        person: VideoPrediction(
            *(np.concatenate([getattr(one, name) for one in videos]) for name in ("outputs", "labels", "present")), 25.0
        )
        for person, videos in people.items()
    }


def ccc(outputs: np.ndarray, labels: np.ndarray) -> float:
    a, b = outputs.astype(np.float64), labels.astype(np.float64)
    return float(2 * ((a - a.mean()) * (b - b.mean())).mean() / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))


def test_interval_is_that_of_a_cluster_bootstrap_by_hand() -> None:
    """Frames of drawn people are put one after another and scored, in numpy alone."""
    predictions = of_people(TASKS["va"])
    people = list(joined(predictions).values())
    n = len(people)

    def score(counts: np.ndarray) -> float:
        chosen = [person for person, times in zip(people, counts, strict=True) for _ in range(times)]
        outputs, labels = (np.concatenate([getattr(one, name) for one in chosen]) for name in ("outputs", "labels"))
        return float(np.mean([ccc(outputs[:, column], labels[:, column]) for column in range(2)]))

    draws = np.array([score(counts) for counts in np.random.default_rng(0).multinomial(n, [1 / n] * n, size=400)])
    left_out = np.array([score(1 - np.eye(n, dtype=int)[person]) for person in range(n)])
    jackknife = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    end = stats.t.ppf(0.975, n - 1) * max(1, jackknife / draws.std())
    expected = np.quantile(draws, stats.norm.cdf([-end, end]))
    np.testing.assert_allclose(interval(TASKS["va"], predictions, 400)["score"], expected, atol=1e-9)
    alone = {name: replace(video, person="") for name, video in predictions.items()}
    low, high = interval(TASKS["va"], alone, 400)["score"]
    assert n_units(TASKS["va"], predictions) == n < n_units(TASKS["va"], alone) == len(predictions)
    assert (noun_of_units(predictions, TASKS["va"]), noun_of_units(alone, TASKS["va"])) == ("people", "videos")
    assert high - low < 0.9 * (expected[1] - expected[0]), "videos alone look more certain than they are"


@pytest.mark.parametrize("name", ["va", "expr", "lsd", "ah", "emi"])
def test_videos_of_a_person_count_as_one_video(name: str) -> None:
    """At each level, and of two runs of which only one knows the people."""
    task = TASKS[name]
    first, second = of_people(task), of_people(task)
    second = {video: replace(one, outputs=one.outputs[:, ::-1] * np.float32(0.7)) for video, one in second.items()}
    merged = {key: replace(one, person=key) for key, one in joined(first).items()}
    want = interval(task, merged, 200)
    for measure, ends in interval(task, first, 200).items():
        np.testing.assert_allclose(ends, want[measure], atol=1e-9)
    old = {video: replace(one, person="") for video, one in first.items()}
    gain, same = difference(task, old, second, 200), difference(task, first, second, 200)
    assert gain == same and difference(task, old, {v: replace(o, person="") for v, o in second.items()}, 200) != same


def test_people_outlive_files_and_ensembles(tmp_path: Path) -> None:
    task = TASKS["va"]
    predictions = {**of_people(task, 3), "alone": replace(of_people(task, 1)["v0-0"], person="")}
    save_predictions(tmp_path / "p.h5", predictions, task)
    loaded = load_predictions(tmp_path / "p.h5")
    people = {video: one.person for video, one in predictions.items()}
    old = {video: replace(one, person="") for video, one in predictions.items()}
    assert {video: one.person for video, one in loaded.items()} == people
    assert {video: one.person for video, one in combine(task, [old, loaded]).items()} == people


def test_no_person_is_in_two_folds() -> None:
    """People join recordings that share one, also through a third; unknown people change nothing."""
    videos = {f"v{number}": 10 + number for number in range(12)} | {"7_left": 5, "7_right": 5}
    people = {"v0": "anna", "v5": "anna", "v9": "ben", "7_left": "ben", "7_right": "cem", "v11": "cem"}
    folds = assign_folds(videos, 4, people)
    assert len({folds[video] for video in ("v9", "7_left", "7_right", "v11")}) == 1 and folds["v0"] == folds["v5"]
    assert sorted(group_videos(videos.keys(), people))[0] == "7", "a group has the first of its names"
    assert assign_folds(videos, 4, dict.fromkeys(videos, "")) == assign_folds(videos, 4)
    assert assign_folds(videos, 4, {"7_left": "7", "7_right": "7"}) == assign_folds(videos, 4)


def test_images_are_dealt_by_person_alone() -> None:
    """Names of folders and people do not join them, as those of recordings would."""
    people = {f"set2-train-p_{number}": f"p_{number % 3}" for number in range(6)}
    labels = {name: VideoLabels("train", np.zeros((1, 1)), person=person) for name, person in people.items()}
    for number in (1, 2, 3):
        dealt = take_split(labels, TASKS["lsd"], "val", f"{number}/3")
        assert len(dealt) == 2 and len({one.person for one in dealt.values()}) == 1


# from data to scores


@pytest.mark.parametrize(
    ("video", "person"),
    [("4_left", "4"), ("4_right", "4"), ("4", ""), ("_left", ""), ("82_Question_1_x_Video", "82"), ("a_2", "")],
)
def test_names_tell_people(video: str, person: str) -> None:
    assert person_in_name(video, "frame") == person and person_in_name(video, "image") == ""


def make_data(root: Path, table: str = "") -> Path:
    """Crops of four videos, with labels of `va`; `4_left` is validated on."""
    for video in ("1", "2", "4_left", "4_right"):
        split = "Validation" if video == "4_left" else "Train"
        (root / "cropped_aligned" / video).mkdir(parents=True)
        labels = root / "VA_Estimation_Challenge" / f"{split}_Set"
        labels.mkdir(parents=True, exist_ok=True)
        (labels / f"{video}.txt").write_text("valence,arousal\n.1,.2\n")
    if table:
        (root / "people.csv").write_text(table)
    return root


def people_in(root: Path, people: str = "") -> dict[str, str]:
    dataset = with_people(open_dataset(root), people)
    return {label.video: dataset.person_of(label) for label in dataset.labels}


def test_a_table_names_people_and_names_of_videos_are_the_default(tmp_path: Path) -> None:
    plain = make_data(tmp_path / "a")
    assert people_in(plain) == {"1": "", "2": "", "4_left": "4", "4_right": "4"}
    named = make_data(tmp_path / "b", "person,video\nanna,1.mp4\nben,4\nanna,4_left\n")
    assert people_in(named) == {"1": "anna", "2": "", "4_left": "anna", "4_right": "ben"}
    other = make_data(tmp_path / "c", "name,age\nanna,3\n")
    assert people_in(other)["1"] == "", "somebody's file of the same name"
    assert [remark.sentence for remark in with_people(open_dataset(other)).remarks] == [
        "names no people, as it does not begin with the line video,person"
    ]
    assert people_in(other, str(named / "people.csv"))["1"] == "anna"
    (other / "f").mkdir()
    np.save(other / "f" / "1.npy", np.zeros((1, 2), np.float32))
    warnings = import_features(ImportOptions(other / "f", tmp_path / "s.zarr", "f", other, fps=30)).warnings
    assert "people.csv: names no people, as it does not begin with the line video,person." in warnings
    unread = with_people(open_dataset(named)).remarks
    assert not unread, unread


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "video,persons\n1,a\n",
            "one column should be 'person'; the columns are video, persons. Did you mean persons?",
        ),
        ("video,person\n1,a\n1,b\n", "line 3: 1 is a in an earlier line"),
        ("video,person\n1\n", "line 2: expected a video and a person, found '1'"),
        ("video,person\n1,a\u202eb\n", "line 2: expected a video and a person"),
        ("video,person\n", "has a header but no rows"),
        ("video,person\n4_lefd,a\n", "names no video of .*, but 4_lefd. Did you mean 4_left"),
    ],
)
def test_wrong_tables_are_explained(tmp_path: Path, table: str, message: str) -> None:
    data, path = make_data(tmp_path / "data"), tmp_path / "mine.csv"
    path.write_text(table)
    with pytest.raises(DataError, match=message):
        with_people(open_dataset(data), str(path))


def test_folders_name_people_where_there_is_one_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for known in ("_added", "_files"):  # what the test adds is forgotten
        monkeypatch.setattr(TASKS, known, {})
    (tmp_path / "mine.toml").write_text(
        'name = "smile"\nlevel = "clip"\nkind = "regression"\noutputs = ["joy"]\nrange = [0, 1]\nmeasure = "mse"\n'
        '[labels]\ntable = "labels.csv"\nclip = "clip"\ntarget = ["joy"]\n'
    )
    get_task(str(tmp_path / "mine.toml"))
    data = tmp_path / "data"
    for name in ("train/anna/1/a", "train/anna/2/b", "val/ben/1/c"):
        (data / name).mkdir(parents=True)
        (data / name / "00001.jpg").touch()
    (data / "labels.csv").write_text("clip,split,joy\na,train,1\nb,train,0\nc,val,1\n")
    assert people_in(data, "folders") == {"a": "anna", "b": "anna", "c": "ben"}
    with pytest.raises(DataError, match="--people folders needs a folder for each person, and 1, 2, 4_left"):
        people_in(make_data(tmp_path / "other"), "folders")


def test_a_person_in_train_and_val_is_said(tmp_path: Path, run_cli: Callable) -> None:
    """By doctor, and from the store by eval; labels keep people apart from rows and splits."""
    data = make_data(tmp_path / "data", "video,person\n1,anna\n4_left,anna\n")
    done = run_cli("doctor", "--data", data)
    assert "1 left/right pairs, 1 person." in done.output, "the two parts of 4 have a pair, not a name"
    assert (
        "\n1 person is in both train and val (anna): scores of people who were trained on are too good." in done.output
    )
    store = FeatureStore.create(tmp_path / "s.zarr")
    rows = np.zeros((3, 2), dtype=np.float32)
    assert store.write_labels("va", "1", "train", rows)
    assert store.write_labels("va", "1", "train", rows, person="anna"), "a person that becomes known is stored"
    assert not store.write_labels("va", "1", "train", rows, person="anna")
    store.write_labels("va", "4_left", "val", rows, person="anna")
    assert {video: one.person for video, one in store.labels("va").items()} == {"1": "anna", "4_left": "anna"}
    assert [one.person for one in select_labels(store, TASKS["va"], "val").values()] == ["anna"]
    assert select_labels(store, TASKS["va"].only(["valence"]), "val")["4_left"].person == "anna"
