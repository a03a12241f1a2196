"""Damage to a store: every flipped bit, cut or lost file is an error that names it, never other data."""

import errno
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from abaw.core.errors import StoreError, UnreachableError
from abaw.core.progress import Silent
from abaw.store import FeatureStore
from abaw.store import writer as writer_module
from abaw.store.audit import describe_store, repair_store, verify_store
from abaw.store.feature_store import VideoFeature
from abaw.tests.support.stores import put_feature

N_FRAMES = 21
CHUNKS = ("values/c/0/0", "values/c/1/0", "values/c/2/0", "present/c/0")
METADATA = ("zarr.json", "values/zarr.json", "present/zarr.json")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """Feature `f` of the videos `v` and `w`, in three shards each, and their labels."""
    monkeypatch.setattr(writer_module, "CHUNK_ROWS", 4)
    monkeypatch.setattr(writer_module, "SHARD_ROWS", 8)
    made = FeatureStore.create(tmp_path / "store.zarr")
    made.add_feature("f", {"shape": [3], "weights": "none"}, None, "fingerprint")
    for video, labels in (("v", np.full((22, 2), 0.5, np.float32)), ("w", np.full((20, 2), -5, np.float32))):
        put_noise(made, video)
        made.write_labels("va", video, "train", labels)
    return made


def put_noise(store: FeatureStore, video: str, feature: str = "f", n_frames: int = N_FRAMES) -> None:
    """Write a video of noise whose third frame is missing."""
    put_feature(store, feature, video, np.random.default_rng(0).normal(size=(n_frames, 3)), np.arange(n_frames) != 2)


def place_of(store: FeatureStore, file: str) -> Path:
    return Path(store.path) / "features/f/v" / file


def flips(content: bytes, n: int) -> list[bytes]:
    """Copies with one random bit turned."""
    rng = np.random.default_rng(len(content))
    copies = []
    for position in rng.choice(len(content) * 8, min(n, len(content) * 8), replace=False).tolist():
        copy = bytearray(content)
        copy[position // 8] ^= 1 << position % 8
        copies.append(bytes(copy))
    return copies


def assert_error_or_same(store: FeatureStore, expected: VideoFeature) -> bool:
    """True if reading was an error; it has to name the feature and the video."""
    try:
        found = FeatureStore.open(store.path).read("f", "v")
    except StoreError as error:
        assert "'f'" in str(error) and "'v'" in str(error)
        return True
    assert found.values.dtype == expected.values.dtype
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.present, expected.present)
    assert found.fps == expected.fps
    return False


@pytest.mark.parametrize("file", [*CHUNKS, *METADATA])
def test_a_flipped_bit_is_an_error_or_changes_nothing(store, file):
    expected, place = store.read("f", "v"), place_of(store, file)
    content = place.read_bytes()
    errors = []
    for damaged in flips(content, 120):
        place.write_bytes(damaged)
        errors.append(assert_error_or_same(store, expected))
    assert any(errors)
    if file in CHUNKS:
        assert all(errors)
    place.write_bytes(content)
    assert not assert_error_or_same(store, expected)


@pytest.mark.parametrize("file", [*CHUNKS, *METADATA])
@pytest.mark.parametrize("left", [0, 1, 0.5, -1])
def test_a_cut_off_file_is_an_error(store, file, left):
    place = place_of(store, file)
    content = place.read_bytes()
    place.write_bytes(content[: int(len(content) * left) if left == 0.5 else left])
    with pytest.raises(StoreError, match=r"'f' of video 'v' is damaged .*Delete .*features/f/v and run"):
        FeatureStore.open(store.path).read("f", "v")


@pytest.mark.parametrize("width", [2, 7])
def test_values_of_another_width_than_the_feature_s_are_an_error(store, width):
    place = place_of(store, "values/zarr.json")
    content = place.read_text()
    place.write_text(content.replace("21,\n    3", f"21,\n    {width}", 1))  # one bit
    assert place.read_text() != content
    with pytest.raises(StoreError, match=r"'f' of video 'v' is damaged"):
        FeatureStore.open(store.path).read("f", "v")


@pytest.mark.parametrize("file", [*CHUNKS, "values/zarr.json", "present/zarr.json", "values", "present"])
def test_a_lost_file_is_an_error(store, file):
    place = place_of(store, file)
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    with pytest.raises(StoreError, match=r"'f' of video 'v' is damaged .*Delete .*features/f/v and run"):
        FeatureStore.open(store.path).read("f", "v")
    np.testing.assert_array_equal(FeatureStore.open(store.path).read("f", "w").values, store.read("f", "w").values)


@pytest.mark.parametrize(
    "action", [describe_store, lambda store: verify_store(store, Silent()), lambda s: s.videos("f")]
)
def test_broken_metadata_of_one_video_leaves_the_others(store, action: Callable):
    place_of(store, "zarr.json").write_bytes(b"")
    action(FeatureStore.open(store.path))
    assert list(FeatureStore.open(store.path).videos("f")) == ["w"]


def test_a_damaged_video_can_be_deleted_and_written_again_as_the_message_says(store):
    place_of(store, CHUNKS[0]).unlink()
    shutil.rmtree(place_of(store, ""))
    opened = FeatureStore.create(store.path)
    assert list(opened.videos("f")) == ["w"]
    put_noise(opened, "v")
    np.testing.assert_array_equal(opened.read("f", "v").values, opened.read("f", "w").values)


# labels


def test_a_flipped_bit_of_labels_is_an_error(store):
    place = Path(store.path) / "labels/va/v/c/0/0"
    for damaged in flips(place.read_bytes(), 60):
        place.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"va labels of video 'v' are damaged .*Delete .*labels/va/v"):
            FeatureStore.open(store.path).labels("va")


def test_lost_labels_are_an_error(store):
    (Path(store.path) / "labels/va/v/c/0/0").unlink()
    with pytest.raises(StoreError, match="va labels of video 'v' are damaged"):
        FeatureStore.open(store.path).labels("va")


def test_labels_are_not_written_where_a_folder_or_a_loop_of_links_stands_for_a_file(store):
    rows = np.zeros((2, 2), np.float32)
    store.write_labels("va", "v", "train", rows)
    group, video = (Path(store.path, "labels", "va", name, "zarr.json") for name in (".", "v"))
    video.unlink()
    video.symlink_to(video)
    with pytest.raises(
        StoreError, match=r"va labels of video 'v' are damaged .*Delete .*labels/va/v and run `abaw extract`"
    ):
        store.write_labels("va", "v", "train", rows)
    group.unlink()
    group.mkdir()
    with pytest.raises(StoreError, match=r"labels or va in it is damaged .*Restore its zarr.json"):
        FeatureStore.create(store.path).write_labels("va", "w", "train", rows)


def keys_in(value: object) -> set[str]:
    """The keys of all objects in a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {*(value if isinstance(value, dict) else ()), *(key for one in inner for key in keys_in(one))}


def outcome_of_labels(store: FeatureStore) -> str:
    """What `labels` makes of its metadata of video `v`: "error", "same", "other split" or "passed over"."""
    try:
        found = FeatureStore.open(store.path).labels("va")
    except StoreError as error:
        assert "'v'" in str(error)
        return "error"
    assert "w" in found, "damage of one video costs another its labels"
    if "v" not in found:
        return "passed over"
    assert found["v"].rows.dtype == np.float32
    np.testing.assert_array_equal(found["v"].rows, np.full((22, 2), 0.5))
    return "same" if found["v"].split == "train" else "other split"


def test_a_flipped_bit_of_the_labels_metadata_is_an_error_or_changes_nothing(store):
    """Labels are passed over, as those that a killed process left, only where a key is another; `verify` names these."""
    place = Path(store.path) / "labels/va/v/zarr.json"
    content = place.read_bytes()
    outcomes = Counter()
    for damaged in flips(content, 200):
        place.write_bytes(damaged)
        outcome = outcome_of_labels(store)
        if outcome == "passed over":
            assert keys_in(json.loads(damaged)) != keys_in(json.loads(content)), "its keys are whole, and it is gone"
            problems = verify_store(FeatureStore.open(store.path), Silent())
            assert [problem.path for problem in problems] == ["labels/va/v"]
            assert "'v'" in problems[0].sentence
        outcomes[outcome] += 1
    assert outcomes["error"] > outcomes["passed over"] > 0, outcomes
    assert outcomes["same"] > 0 and not outcomes["other split"], outcomes
    place.write_bytes(content)
    assert outcome_of_labels(store) == "same"


def test_a_flipped_bit_of_the_split_of_labels_is_an_error(store):
    place = Path(store.path) / "labels/va/v/zarr.json"
    place.write_bytes(place.read_bytes().replace(b'"train"', b'"tsain"'))
    with pytest.raises(StoreError, match=r"labels of video 'v' are damaged .their attributes have changed"):
        FeatureStore.open(store.path).labels("va")


def test_a_flipped_bit_of_the_frame_rate_is_an_error(store):
    place = place_of(store, "zarr.json")
    place.write_bytes(place.read_bytes().replace(b"25.0", b"24.0"))
    with pytest.raises(StoreError, match=r"'f' of video 'v' is damaged .its attributes are invalid"):
        FeatureStore.open(store.path).read("f", "v")
    assert FeatureStore.open(store.path).incomplete("f") == ["v"], "the next extract does not write it again"


def test_attributes_of_older_versions_have_no_checksum_and_are_read(store):
    for place in (place_of(store, "zarr.json"), Path(store.path) / "labels/va/v/zarr.json"):
        content = json.loads(place.read_bytes())
        assert len(content["attributes"].pop("checksum")) == 8
        place.write_text(json.dumps(content))
    assert FeatureStore.open(store.path).read("f", "v").fps == 25.0
    assert FeatureStore.open(store.path).labels("va")["v"].split == "train"


def test_labels_that_are_passed_over_in_silence_are_those_that_were_never_complete(store):
    """`labels` passes them over, but who asks for them by name gets an error."""
    place = Path(store.path) / "labels/va/v/zarr.json"
    content = place.read_bytes()
    place.write_bytes(content.replace(b'"complete"', b'"completf"'))
    assert set(FeatureStore.open(store.path).labels("va")) == {"w"}
    with pytest.raises(StoreError, match=r"va labels of video 'v' are damaged .they are incomplete"):
        FeatureStore.open(store.path).read_labels("va", "v")


# verify


def test_verify_finds_nothing_in_a_whole_store(store):
    assert verify_store(FeatureStore.open(store.path), Silent()) == []


def test_verify_finds_all_kinds_of_damage_at_once(store):
    store.add_feature("g", {"shape": [3], "weights": "none"}, None, "other")
    put_noise(store, "v", "g")
    put_noise(store, "w", "g", n_frames=N_FRAMES + 1)
    store.writer("g", "x", 30, np.arange(30), {}).write(np.arange(16), np.ones((16, 3), np.float32))
    chunk = place_of(store, "values/c/1/0")
    chunk.write_bytes(flips(chunk.read_bytes(), 1)[0])
    labels = Path(store.path) / "labels/va/w/c/0/0"
    labels.write_bytes(flips(labels.read_bytes(), 1)[0])
    problems = verify_store(FeatureStore.open(store.path), Silent())
    assert len(problems) == 4
    for words in (
        ("'f'", "'v'", "damaged"),
        ("'g'", "'x'", "incomplete"),
        ("'w'", "disagree", "f 21", "g 22"),
        ("va", "'w'", "damaged"),
    ):
        assert any(all(word in problem.sentence for word in words) for problem in problems), words


def test_repair_drops_what_is_damaged_and_nothing_else(store):
    store.add_feature("g", {"shape": [3], "weights": "none"}, None, "other")
    put_noise(store, "v", "g")
    store.writer("g", "x", 30, np.arange(30), {}).write(np.arange(16), np.ones((16, 3), np.float32))
    (Path(store.path) / "labels/va/w/c/0/0").write_bytes(b"junk")
    chunk = place_of(store, "values/c/1/0")
    chunk.write_bytes(flips(chunk.read_bytes(), 1)[0])
    opened = FeatureStore.create(store.path)
    kept = opened.read("g", "v").values
    dropped, left = repair_store(opened, Silent())
    assert sorted(problem.path for problem in dropped) == ["features/f/v", "features/g/x", "labels/va/w"] and left == []
    again = FeatureStore.open(store.path)
    assert verify_store(again, Silent()) == []
    assert "v" not in again.videos("f") and "w" not in again.labels("va") and "v" in again.labels("va")
    assert np.array_equal(again.read("g", "v").values, kept)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), PermissionError("Access Denied"), TimeoutError()])
def test_trouble_of_the_network_is_no_damage_and_repair_drops_nothing(store, monkeypatch, error):
    open_file = Path.open

    def failing(self, *args, **kwargs):
        if str(self).endswith(("f/v/values/c/1/0", "labels/va/w/c/0/0")):
            raise error
        return open_file(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(UnreachableError, match=r"features/f/v cannot be read at the moment .* run this again"):
        FeatureStore.open(store.path).read("f", "v")
    dropped, left = repair_store(FeatureStore.create(store.path), Silent())
    assert (
        dropped == [] and len(left) == 2 and all("cannot be read at the moment" in problem.sentence for problem in left)
    )
    monkeypatch.undo()
    assert verify_store(FeatureStore.open(store.path), Silent()) == []


def test_verify_finds_every_damaged_label_array(store):
    for video in "vw":
        (Path(store.path) / f"labels/va/{video}/c/0/0").write_bytes(b"junk")
    problems = verify_store(FeatureStore.open(store.path), Silent())
    assert len(problems) == 2


def test_verify_tells_its_progress(store):
    class Counting(Silent):
        total = done = 0

        def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
            self.total = total

        def advance(self, n: int = 1, note: str = "") -> None:
            self.done += n

    counting = Counting()
    verify_store(store, counting)
    assert counting.total == counting.done == 2


def test_the_commands_exit_with_1_and_name_what_is_damaged(store, run_cli):
    assert run_cli("store", "verify", store.path).exit_code == 0
    place_of(store, "present/c/0").unlink()
    result = run_cli("store", "verify", store.path)
    assert result.exit_code == 1
    assert "1 problems in" in result.stderr and "'f' of video 'v' is damaged" in result.stderr
    assert run_cli("store", "info", store.path).exit_code == 0


def test_repair_of_a_path_without_a_store_makes_none(run_cli, tmp_path):
    result = run_cli("store", "repair", tmp_path / "typo.zarr")
    assert result.exit_code != 0 and f"No feature store at {tmp_path / 'typo.zarr'}." in result.stderr
    assert "Nothing" not in result.stdout and list(tmp_path.iterdir()) == []


def test_a_link_to_itself_in_the_place_of_metadata_or_a_note_does_not_stop_the_others(store: FeatureStore) -> None:
    store.notes.write("one", "text")
    (Path(store.path) / ".notes/loop").symlink_to("loop")
    assert store.notes.read() == {"one": "text"}
    metadata = Path(store.path) / "features/f/v/zarr.json"
    metadata.unlink()
    metadata.symlink_to(metadata.name)
    assert list(store.videos("f")) == ["w"]
