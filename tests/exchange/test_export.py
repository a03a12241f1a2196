"""Export of features, and its import: nothing is lost, nothing is overwritten, nothing is left half written."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import h5py
import numpy as np
import pytest

from abaw.core.errors import DataError, StoreError, UsageError
from abaw.core.progress import Silent
from abaw.exchange.exporter import export_feature
from abaw.exchange.importer import ImportOptions, import_features
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused

FINGERPRINT = "0123456789abcdef" * 4
FORMATS = ("h5", "npy")
OTHERS = ("parquet", "lance", "webdataset")
needs = {"parquet": "pyarrow", "lance": "lance", "webdataset": "webdataset"}


def new_export_store(path: Path, shape: tuple[int, ...] = (3,), dtype: str = "float16") -> FeatureStore:
    """A store with the feature `f` of a backbone with very many class names."""
    store = FeatureStore.create(path)
    spec = {"shape": list(shape), "dtype": dtype, "weights": "file", "classes": [f"class {i}" for i in range(20_000)]}
    store.add_feature("f", spec, "beef", FINGERPRINT)
    return store


def put_in_batches(
    store: FeatureStore,
    video: str,
    values: np.ndarray,
    present: np.ndarray,
    fps: float,
    step: int = 7,
    marks: tuple[str, ...] = (),
) -> None:
    """Write a video in batches of `step` frames."""
    rows = np.flatnonzero(present)
    attrs = {"fps": fps, "source": "digest", **dict.fromkeys(marks, True)}
    writer = store.writer("f", video, len(values), rows, attrs)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        writer.write(part, values[part])
    writer.finish(allow_empty=True)


def fill(store: FeatureStore, shape: tuple[int, ...] = (3,)) -> None:
    """Videos with gaps, with none present, with odd names and rates, and with values beyond float16."""
    rng = np.random.default_rng(0)
    for number, (video, n) in enumerate((("a", 50), ("b c.d", 1), ("größe_left", 5000))):
        values = rng.normal(size=(n, *shape)).astype(np.float32)
        present = rng.random(n) < 0.8
        present[-1] = number != 0  # the last frame of one is missing
        put_in_batches(store, video, values, present, (30000 / 1001, 17.0, 24.0)[number])
    put_in_batches(store, "silent", np.zeros((8, *shape), np.float32), np.zeros(8, bool), 25.0)
    values = rng.normal(size=(9000, *shape)).astype(np.float32)
    values[4999] = 1e5  # float32 begins with the batch of this frame, which begins in the middle of a block
    put_in_batches(store, "wide", values, np.ones(9000, bool), 60.0, step=4500)


def assert_same(one: FeatureStore, other: FeatureStore, feature: str) -> None:
    """Every video of `f` in the one is bit by bit that of `feature` in the other."""
    assert list(one.videos("f")) == list(other.videos(feature))
    for video in one.videos("f"):
        mine, theirs = one.read("f", video), other.read(feature, video)
        assert (mine.values.dtype, mine.fps) == (theirs.values.dtype, theirs.fps)
        assert mine.values.tobytes() == theirs.values.tobytes()
        assert mine.present.tobytes() == theirs.present.tobytes()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("shape", "dtype"), [((3,), "float16"), ((2, 4), "float16"), ((3,), "float32")])
def test_import_of_an_export_is_the_same_feature(tmp_path, form, shape, dtype):
    store = new_export_store(tmp_path / "one.zarr", shape, dtype)
    fill(store, shape)
    assert export_feature(store, "f", tmp_path / "out.h5", form) == (5, 14_059)
    summary = import_features(ImportOptions(tmp_path / "out.h5", tmp_path / "two.zarr", "again"))
    assert summary.ok and not summary.warnings
    other = FeatureStore.open(tmp_path / "two.zarr")
    assert_same(store, other, "again")
    mine, theirs = store.feature_attrs("f"), other.feature_attrs("again")
    assert [mine[key] for key in ("spec", "weights_sha256", "fingerprint")] == [
        theirs[key] for key in ("spec", "weights_sha256", "fingerprint")
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_round_trip_of_the_demo(run_cli, tiny_store, tmp_path, form):
    out, other = tmp_path / "hog", tmp_path / "other.zarr"
    out = out.with_suffix(".h5") if form == "h5" else out
    words = ("store", "export", "--feature", "hog", "--store", tiny_store, "--out", out, "--format", form)
    result = run_cli(*words)
    assert result.exit_code == 0 and "7 videos" in result.stdout
    assert run_cli("store", "import", out, "--feature", "f", "--store", other).exit_code == 0
    one, two = FeatureStore.open(tiny_store), FeatureStore.open(other)
    for video in one.videos("hog"):
        mine, theirs = one.read("hog", video), two.read("f", video)
        np.testing.assert_array_equal(mine.values, theirs.values)
        np.testing.assert_array_equal(mine.present, theirs.present)
        assert mine.fps == theirs.fps
    assert one.feature_attrs("hog")["fingerprint"] == two.feature_attrs("f")["fingerprint"]
    again = run_cli(*words)
    assert again.exit_code == 2
    assert again.stderr.startswith("Error: ") and "already exists and is not overwritten" in again.stderr


def test_layout_of_the_hdf5_file(tmp_path):
    store = new_export_store(tmp_path / "one.zarr")
    values, present = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([True, False, True, True])
    put_in_batches(store, "v", values, present, 25.0)
    export_feature(store, "f", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert json.loads(file.attrs["spec"])["shape"] == [3]
        assert (file.attrs["fingerprint"], file.attrs["feature"]) == (FINGERPRINT, "f")
        assert file["v"].attrs["fps"] == 25 and file["v/values"].dtype == np.float16
        np.testing.assert_array_equal(file["v/present"][...], present)
        np.testing.assert_array_equal(file["v/values"][...], values * present[:, None])


def test_layout_of_the_folder(tmp_path):
    store = new_export_store(tmp_path / "one.zarr")
    values, present = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([True, False, True, True])
    put_in_batches(store, "v", values, present, 25.0)
    export_feature(store, "f", tmp_path / "out", "npy")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["feature.json", "v.npy", "v.present.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "v.npy"), values * present[:, None])
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "v.present.npy"), present)
    assert json.loads((tmp_path / "out" / "feature.json").read_text())["fps"] == {"v": 25.0}


# formats that other programs read back


def read_rows(out: Path, form: str) -> tuple[dict[str, list[Any]], np.ndarray, dict[str, str]]:
    """The columns of an export of frames but the values; the values; and the metadata of its schema."""
    if form == "parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(out)
    else:
        table = pytest.importorskip("lance").dataset(str(out)).to_table()
    vectors = table["values"].combine_chunks()
    values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), vectors.type.list_size)
    columns = table.drop_columns("values").to_pydict()
    return columns, values, {key.decode(): text.decode() for key, text in table.schema.metadata.items()}


@pytest.mark.parametrize("form", ["parquet", "lance"])
@pytest.mark.parametrize("limit", [1, 20_000, 2**28], ids=["a video at a time", "some", "all"])
def test_every_frame_is_a_row(tmp_path, form, limit, monkeypatch):
    pytest.importorskip(needs[form])
    for name in ("GROUP_BYTES", "FRAGMENT_BYTES"):
        monkeypatch.setattr(f"abaw.exchange.arrow_sinks.{name}", limit)
    store = new_export_store(tmp_path / "one.zarr", (2, 4))
    fill(store, (2, 4))
    put_in_batches(store, "still", np.ones((2, 2, 4), np.float32), np.ones(2, bool), 0.0, marks=("sampled",))
    assert export_feature(store, "f", tmp_path / f"out.{form}", form) == (6, 14_061)
    columns, values, metadata = read_rows(tmp_path / f"out.{form}", form)
    stored = {video: store.read("f", video) for video in store.videos("f")}
    assert columns["video"] == [video for video, one in stored.items() for _ in one.present]
    assert columns["frame"] == [number for one in stored.values() for number in range(1, len(one.present) + 1)]
    assert columns["present"] == [bool(is_there) for one in stored.values() for is_there in one.present]
    times = [row / one.fps if one.fps else None for one in stored.values() for row in range(len(one.present))]
    assert columns["time"] == times
    assert values.dtype == np.float32, "one video needs it"
    np.testing.assert_array_equal(values, np.concatenate([one.values.reshape(-1, 8) for one in stored.values()]))
    assert (metadata["feature"], metadata["fingerprint"]) == ("f", FINGERPRINT)
    assert json.loads(metadata["spec"])["shape"] == [2, 4] and json.loads(metadata["sampled"]) == ["still"]
    assert json.loads(metadata["fps"])["größe_left"] == 24.0


def test_rows_are_written_together_and_not_all_at_once(tmp_path, monkeypatch):
    parquet, lance = (pytest.importorskip(name) for name in ("pyarrow.parquet", "lance"))
    store = new_export_store(tmp_path / "one.zarr")
    for number in range(6):
        put_in_batches(store, f"v{number}", np.ones((100, 3), np.float32), np.ones(100, bool), 25.0)
    monkeypatch.setattr("abaw.exchange.arrow_sinks.GROUP_BYTES", 150 * 6)
    monkeypatch.setattr("abaw.exchange.arrow_sinks.FRAGMENT_BYTES", 200 * 6)
    export_feature(store, "f", tmp_path / "a", "parquet")
    export_feature(store, "f", tmp_path / "b", "lance")
    file = parquet.ParquetFile(tmp_path / "a")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [150, 50] * 3
    assert str(file.schema_arrow.field("values").type) == "fixed_size_list<element: halffloat>[3]"
    dataset = lance.dataset(str(tmp_path / "b"))
    assert [fragment.count_rows() for fragment in dataset.get_fragments()] == [200] * 3 and dataset.version == 1


def test_samples_of_a_web_dataset(tmp_path, monkeypatch):
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr("abaw.exchange.web_dataset.SHARD_BYTES", 50_000)
    store = new_export_store(tmp_path / "one.zarr")
    fill(store)
    put_in_batches(store, "50%.2E", np.ones((2, 3), np.float32), np.ones(2, bool), 25.0, marks=("length_from_crops",))
    assert export_feature(store, "f", tmp_path / "out", "webdataset") == (6, 14_061)
    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    assert [Path(shard).name for shard in shards] == ["shard-000000.tar", "shard-000001.tar"]
    samples = {s["json"]["video"]: s for s in webdataset.WebDataset(shards, shardshuffle=False).decode()}
    assert list(samples) == list(store.videos("f"))
    for video, sample in samples.items():
        stored = store.read("f", video)
        assert sample["npy"].dtype == stored.values.dtype and sample["npy"].tobytes() == stored.values.tobytes()
        assert sample["present.npy"].tolist() == stored.present.tolist()
        assert (sample["json"]["fps"], sample["json"]["n_frames"]) == (stored.fps, len(stored.present))
        assert sample["json"].get("length_from_crops") is (True if video == "50%.2E" else None)
    content = json.loads((tmp_path / "out" / "feature.json").read_text())
    assert (content["feature"], content["fingerprint"], content["n_shards"]) == ("f", FINGERPRINT, 2)


@pytest.mark.parametrize(("form", "package"), [("parquet", "pyarrow"), ("lance", "lance")])
def test_a_format_whose_package_is_missing(tiny_store, run_cli, tmp_path, monkeypatch, form, package):
    monkeypatch.setitem(sys.modules, "pyarrow", None if package == "pyarrow" else ModuleType("pyarrow"))
    monkeypatch.setitem(sys.modules, package, None)
    words = ("--feature", "hog", "--store", tiny_store, "--out", tmp_path / "out", "--format", form)
    result = run_cli("store", "export", *words)
    assert_refused(result, 2, f"--format {form} needs a package that is missing", f"pip install '.[{form}]' in abaw's")
    assert list(tmp_path.iterdir()) == []


MARKED: dict[str, tuple[str, ...]] = {"clip": ("sampled",), "crops": ("length_from_crops",), "told": ()}


def export_marked(tmp_path: Path, form: Literal["h5", "npy"]) -> Path:
    """An export of three videos of 12 rows with the marks of `MARKED`."""
    store = new_export_store(tmp_path / "one.zarr")
    for video, marks in MARKED.items():
        put_in_batches(store, video, np.ones((12, 3), np.float32), np.ones(12, bool), 25.0, marks=marks)
    export_feature(store, "f", tmp_path / "out.h5", form)
    return tmp_path / "out.h5"


@pytest.mark.parametrize("form", FORMATS)
def test_marks_of_videos_survive(tmp_path, form):
    out = export_marked(tmp_path, form)
    assert import_features(ImportOptions(out, tmp_path / "two.zarr", "f")).ok
    store = FeatureStore.open(tmp_path / "two.zarr")
    for video, marks in MARKED.items():
        attrs = store.video_attrs("f", video)
        assert {mark: attrs[mark] for mark in ("sampled", "length_from_crops") if mark in attrs} == dict.fromkeys(
            marks, True
        )
    assert import_features(ImportOptions(out, tmp_path / "two.zarr", "f")).skipped == list(MARKED)


@pytest.mark.parametrize("form", FORMATS)
def test_a_video_file_tells_the_length_that_no_file_had_told(tmp_path, form, numbered):
    out = export_marked(tmp_path, form)
    file = tmp_path / "data" / "videos" / "crops.mp4"
    numbered.write(file, n_frames=30, rate=24)
    shutil.copy(file, file.with_name("clip.mp4"))
    assert import_features(ImportOptions(out, tmp_path / "two.zarr", "f", tmp_path / "data")).ok
    store = FeatureStore.open(tmp_path / "two.zarr")
    crops, clip = store.video_attrs("f", "crops"), store.video_attrs("f", "clip")
    assert (crops["n_frames"], crops["fps"]) == (30, 24) and "length_from_crops" not in crops
    assert (clip["n_frames"], clip["fps"]) == (12, pytest.approx(24 * 12 / 30)) and clip["sampled"] is True


def test_a_length_stays_guessed_where_the_video_file_cannot_be_read(tmp_path):
    out = export_marked(tmp_path, "h5")
    file = tmp_path / "data" / "videos" / "crops.mp4"
    file.parent.mkdir(parents=True)
    file.write_text("no video")
    assert import_features(ImportOptions(out, tmp_path / "two.zarr", "f", tmp_path / "data")).ok
    assert FeatureStore.open(tmp_path / "two.zarr").video_attrs("f", "crops")["length_from_crops"] is True


@pytest.mark.parametrize("form", FORMATS)
def test_marks_are_only_where_they_are_true(tmp_path, form):
    out = export_marked(tmp_path, form)
    if form == "h5":
        with h5py.File(out) as file:
            assert {video: dict(file[video].attrs) for video in file} == {
                video: {"fps": 25, **dict.fromkeys(marks, True)} for video, marks in MARKED.items()
            }
        return
    content = json.loads((out / "feature.json").read_text())
    assert (content["sampled"], content["length_from_crops"]) == (["clip"], ["crops"])


def test_a_mark_that_was_changed_in_the_folder_is_taken(tmp_path):
    out = export_marked(tmp_path, "npy")
    import_features(ImportOptions(out, tmp_path / "two.zarr", "f"))
    content = json.loads((out / "feature.json").read_text())
    del content["sampled"]
    (out / "feature.json").write_text(json.dumps(content))
    summary = import_features(ImportOptions(out, tmp_path / "two.zarr", "f"))
    assert (summary.done, summary.skipped) == (["clip"], ["crops", "told"])
    assert "sampled" not in FeatureStore.open(tmp_path / "two.zarr").video_attrs("f", "clip")


@pytest.mark.parametrize("value", ["yes", 2, [True, False], np.nan, h5py.Empty("f")])
@pytest.mark.parametrize("mark", ["sampled", "length_from_crops"])
def test_a_mark_that_is_no_truth_value(tmp_path, mark, value):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for video, own in (("v", value), ("w", 1), ("x", False)):
            file[f"{video}/values"] = np.ones((2, 3), np.float16)
            file[video].attrs[mark] = own
    summary = import_features(ImportOptions(tmp_path / "in.h5", tmp_path / "two.zarr", "f", fps=25))
    assert summary.done == ["w", "x"]
    assert summary.failed["v"] == (
        f"{tmp_path}/in.h5/v has an attribute {mark!r} that is neither true nor false. Correct or delete it."
    )
    videos = FeatureStore.open(tmp_path / "two.zarr").videos("f")
    assert videos["w"][mark] is True and mark not in videos["x"]


@pytest.mark.parametrize("value", [5, "clip", [1], {"clip": True}, None])
@pytest.mark.parametrize("mark", ["sampled", "length_from_crops"])
def test_marks_in_a_folder_that_are_no_list_of_videos(tmp_path, mark, value):
    np.save(tmp_path / "v.npy", np.ones((2, 3), np.float16))
    (tmp_path / "feature.json").write_text(json.dumps({mark: value}))
    with pytest.raises(
        DataError,
        match=rf"feature.json cannot be read \('{mark}' is not a list of videos\). Delete it, or export again.",
    ):
        import_features(ImportOptions(tmp_path, tmp_path / "two.zarr", "f"))


@pytest.mark.parametrize("form", [*FORMATS, *OTHERS])
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_nothing_is_overwritten(tmp_path, form, make):
    if form in OTHERS:
        pytest.importorskip(needs[form])
    store = new_export_store(tmp_path / "one.zarr")
    put_in_batches(store, "v", np.ones((2, 3), np.float32), np.ones(2, bool), 25.0)
    make(tmp_path / "out")
    with pytest.raises(UsageError, match=r"out already exists and is not overwritten. Choose another path with --out"):
        export_feature(store, "f", tmp_path / "out", form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zarr", "out"]


def test_a_name_too_long_for_a_file_is_exported_in_one(tmp_path):
    store, name = new_export_store(tmp_path / "one.zarr"), "n" * 250
    put_in_batches(store, name, np.ones((3, 3), np.float32), np.ones(3, bool), 25.0)
    with pytest.raises(
        UsageError,
        match=r"^The name of video 'n+'\.\.\. is too long for a file of its own\. Export with --format h5\.$",
    ):
        export_feature(store, "f", tmp_path / "out", "npy")
    assert not (tmp_path / "out").exists()
    assert export_feature(store, "f", tmp_path / "out.h5") == (1, 3)
    assert import_features(ImportOptions(tmp_path / "out.h5", tmp_path / "two.zarr", "f")).done == [name]


class Interrupting(Silent):
    """Ctrl-C after the first video."""

    def advance(self, n: int = 1, note: str = "") -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("form", [*FORMATS, *OTHERS])
def test_nothing_is_left_of_an_export_that_did_not_finish(tmp_path, form):
    if form in OTHERS:
        pytest.importorskip(needs[form])
    store = new_export_store(tmp_path / "one.zarr")
    fill(store)
    (tmp_path / "out.partial").write_text("of an export that was killed")
    with pytest.raises(KeyboardInterrupt):
        export_feature(store, "f", tmp_path / "out", form, Interrupting())
    assert [path.name for path in tmp_path.iterdir()] == ["one.zarr"]
    shard = next((tmp_path / "one.zarr/features/f/wide/values/c").rglob("0"))
    shard = shard if shard.is_file() else next(path for path in shard.rglob("*") if path.is_file())
    shard.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="of video 'wide' is damaged"):
        export_feature(store, "f", tmp_path / "out", form)
    assert [path.name for path in tmp_path.iterdir()] == ["one.zarr"]


def test_what_cannot_be_exported(tmp_path):
    store = new_export_store(tmp_path / "one.zarr")
    with pytest.raises(StoreError, match=r"Feature 'f' in .* has no complete video"):
        export_feature(store, "f", tmp_path / "out")
    put_in_batches(store, "v", np.ones((2, 3), np.float32), np.ones(2, bool), 25.0)
    with pytest.raises(UsageError, match="No feature 'g' in"):
        export_feature(store, "g", tmp_path / "out")
    with pytest.raises(UsageError, match=r"No folder .*nowhere to write out into"):
        export_feature(store, "f", tmp_path / "nowhere" / "out")
    put_in_batches(store, "v.present", np.ones((2, 3), np.float32), np.ones(2, bool), 25.0)
    with pytest.raises(UsageError, match=r"Two videos would be written into v\.present\.npy. Export with --format h5"):
        export_feature(store, "f", tmp_path / "out", "npy")
    assert export_feature(store, "f", tmp_path / "out", "h5") == (2, 4)


def test_videos_that_are_cut_off_are_left_out_and_said(run_cli, tmp_path):
    store = new_export_store(tmp_path / "one.zarr")
    fill(store)
    (tmp_path / "one.zarr/features/f/a/zarr.json").unlink()
    result = run_cli("store", "export", "--feature", "f", "--store", store.path, "--out", tmp_path / "out.h5")
    assert result.exit_code == 1
    assert "4 videos" in result.stdout and "1 videos are incomplete and were left out:\n  a" in result.stderr


@pytest.mark.parametrize(
    ("spec", "fingerprint"),
    [
        ("{", FINGERPRINT),
        ("[]", FINGERPRINT),
        ('{"shape": [-3]}', FINGERPRINT),
        ('{"shape": [3], "dtype": "object"}', FINGERPRINT),
        ('{"shape": [3]}', "../../x"),
    ],
)
def test_an_export_that_was_tampered_with(tmp_path, spec, fingerprint):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["v/values"] = np.ones((2, 3), np.float16)
        file.attrs.update({"spec": spec, "fingerprint": fingerprint})
    summary = import_features(ImportOptions(tmp_path / "in.h5", tmp_path / "two.zarr", "f"))
    assert "not in the form that `abaw store export` writes" in summary.failed["in"] and not summary.done


def test_another_shape_than_the_export_says(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["v/values"] = np.ones((2, 3), np.float16)
        file.attrs.update({"spec": '{"shape": [4]}', "fingerprint": FINGERPRINT})
    with pytest.raises(DataError, match=r"declares frames of shape \[4\]; they have shape \(3,\)"):
        import_features(ImportOptions(tmp_path / "in.h5", tmp_path / "two.zarr", "f"))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "fast"])
def test_an_impossible_frame_rate(tmp_path, fps):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["v/values"] = np.ones((2, 3), np.float16)
        file["v"].attrs["fps"] = fps
        file["w/values"] = np.ones((2, 3), np.float16)
    summary = import_features(ImportOptions(tmp_path / "in.h5", tmp_path / "two.zarr", "f", fps=25))
    assert summary.done == ["w"] and "has an invalid frame rate" in summary.failed["v"]
