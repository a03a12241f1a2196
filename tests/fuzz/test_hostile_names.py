"""Names that lead elsewhere, links, files that claim more than they hold, and code in data: each is refused in words."""

import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import simplejpeg
import torch
from click.testing import Result
from PIL import Image

from abaw.backbones.weights import read_tensors
from abaw.core.errors import AbawError, CheckpointError, DataError, StoreError, UsageError
from abaw.core.files import save_json
from abaw.core.progress import Silent
from abaw.core.tasks import TASKS, get_task
from abaw.datasets.layouts import open_dataset
from abaw.datasets.mtl import HEADER as MTL_HEADER
from abaw.datasets.synth.cutouts import read_cutout
from abaw.evaluate.predictions import VideoPrediction, load_predictions, save_predictions
from abaw.evaluate.submission.sample_files import read_sample
from abaw.exchange.importer import ImportOptions, import_features
from abaw.fuzz import bombs
from abaw.fuzz.seeds import CANARY, as_torch, payloads
from abaw.media.images import read_image
from abaw.media.tensors import read_image_tensor
from abaw.store import FeatureStore
from abaw.store.audit import repair_store, verify_store
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.checkpoint import save_tensors
from abaw.train.loop import Log
from abaw.train.recipes import load_recipe
from abaw.train.runs import open_run

LEADING_OUT = ("../x", "/etc/x", "..", "a/b", "a\\b", ".x")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nothing may change, with a file."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    return folder


def assert_kept(outside: Path) -> None:
    assert [path.name for path in outside.rglob("*")] == ["kept.txt"]
    assert (outside / "kept.txt").read_text() == "kept"


# files that unpack to more than they hold


def import_of(_: str) -> Callable[[Path], object]:
    """Import a folder with one file; the reason why that failed is raised."""

    def run(place: Path) -> None:
        summary = import_features(ImportOptions(place.parent, place.parent.parent / "s.zarr", "f", fps=25.0))
        raise DataError(str([*summary.failed.values()]))

    return run


@pytest.mark.parametrize(
    ("file", "write", "read", "words"),
    [
        (
            "a.h5",
            bombs.hdf5(bombs.packed_zeros),
            import_of,
            r"bytes for 4,096,000,000 bytes of values, which are not unpacked",
        ),
        (
            "a.h5",
            bombs.hdf5(bombs.claimed_values((10**6, 1000), (1, 1))),
            import_of,
            "stores 0 bytes for 2,000,000,000 bytes",
        ),
        ("a.npz", bombs.archive("values.npy", (10**6, 1000), 2**24), import_of, "for 2,000,000,000 bytes of values"),
        (
            "a.pt",
            bombs.torch_archive(bombs.tensor_pickle((2**18, 512)), 2**28 + 2**25),
            import_of,
            r"bytes unpack to [0-9,]+",
        ),
        (
            "a.mp4.img.3.pt",
            bombs.torch_archive(b"", 2**28 + 2**25),
            lambda _: read_image_tensor,
            r"not read: its [0-9,]+ bytes unpack",
        ),
        ("w.pt", bombs.torch_archive(bombs.shared_nest(40)), lambda _: read_tensors, "has no state dict"),
        (
            "w.pt",
            bombs.torch_archive(b"", 2**28 + 2**25),
            lambda _: read_tensors,
            r"not read: its [0-9,]+ bytes unpack",
        ),
        ("w.safetensors", bombs.safetensors(bombs.many_tensors()), lambda _: read_tensors, "table of tensors has"),
        ("r.toml", bombs.text("a.", 40_000), lambda _: lambda file: load_recipe(str(file)), "more than 65,536 bytes"),
        ("config.json", bombs.text("[", 10**6), lambda _: lambda file: open_run(file.parent), "nested too deeply"),
        (
            "config.json",
            bombs.text("[],", 3 * 10**6),
            lambda _: lambda file: open_run(file.parent),
            "more than 8,388,608",
        ),
    ],
)
def test_what_unpacks_to_more_than_it_holds_is_refused(tmp_path, file, write, read, words):
    place = tmp_path / "in" / file
    place.parent.mkdir()
    write(place)
    with pytest.raises(AbawError, match=words):
        read(file)(place)


# crops


def test_a_picture_in_postscript_is_not_given_to_ghostscript(tmp_path):
    file = tmp_path / "00001.jpg"
    Image.new("RGB", (4, 4)).save(file, "EPS")
    with pytest.raises(DataError, match=r"00001\.jpg is not an image\. Replace or delete it\."):
        read_image(file)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "words"),
    [
        (26_000, "has 26000 x 10000 pixels: more than 250,000,000 are not decoded. Shrink or delete it."),
        (60_000, "has more than 250,000,000 pixels. Shrink or delete it."),
    ],
)
@pytest.mark.parametrize("read", [read_image, lambda file: read_cutout(file, 24)], ids=["crop", "cutout"])
def test_a_small_png_that_claims_to_be_huge_is_not_decoded(tmp_path, read, width, words):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, 10_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(10**6)), b"IEND"]
    parts = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(DataError, match=re.escape(words)):
        read(tmp_path / "1.png")


def test_a_small_jpeg_that_claims_to_be_huge_is_not_decoded(tmp_path):
    content = bytearray(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    (tmp_path / "1.jpg").write_bytes(content)
    with pytest.raises(DataError, match="has 60000 x 60000 pixels"):
        read_image(tmp_path / "1.jpg")


def test_a_jpeg_of_many_scans_is_not_decoded(tmp_path):
    content = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    start = content.index(b"\xff\xda")
    (tmp_path / "1.jpg").write_bytes(content[:start] + content[start:-2] * 101 + content[-2:])
    with pytest.raises(DataError, match="JPEG of more than 100 scans, which takes too long to decode"):
        read_image(tmp_path / "1.jpg")


# labels


@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_in_label_files_do_not_lead_elsewhere(tmp_path, make_data, name):
    root = make_data({"a": 1}, tmp_path / "data")
    (root / "training_set_annotations.txt").write_text(f"{MTL_HEADER}\n{name}/00001.jpg,0,0,3{',0' * 12}\n")
    (root / "Train_labels.txt").write_text(f"Vid_name Label\n{name} 3\n")
    dataset = open_dataset(root)
    assert dataset.labels == ()
    multi, clips = (remark.sentence for remark in dataset.remarks if remark.is_error)
    assert "line 2: the image should be <video>/<frame number>.jpg" in multi and multi.endswith("Correct the line.")
    assert "line 2: " in clips and "is not the name of a clip. Correct the line." in clips


def test_what_a_link_leads_to_is_checked_as_any_label_file(tmp_path, make_data, outside):
    root = make_data({"a": 1}, tmp_path / "data")
    folder = root / "VA_Estimation_Challenge" / "Train_Set"
    folder.mkdir(parents=True)
    for file in (folder / "a.txt", root / "training_set_annotations.txt", root / "Train_labels.txt"):
        file.symlink_to(outside / "kept.txt")
    dataset = open_dataset(root)
    (label,) = dataset.labels
    with pytest.raises(DataError, match=r"a\.txt line 1: the header should be 'valence,arousal', found 'kept'"):
        label.read()
    multi, clips = (remark.sentence for remark in dataset.remarks if remark.is_error)
    assert "training_set_annotations.txt line 1" in multi and "Train_labels.txt line 1" in clips
    assert_kept(outside)


def test_folders_of_labels_and_crops_may_be_links(tmp_path, make_data, make_labels):
    data = make_data({"a": 1}, tmp_path / "real")
    make_labels(data, "VA_Estimation_Challenge/Train_Set", "a", "valence,arousal", "0.5,0.25")
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("VA_Estimation_Challenge", "cropped_aligned"):
        (linked / name).symlink_to(data / name)
    dataset = open_dataset(linked)
    assert [video.name for video in dataset.videos] == ["a"]
    assert dataset.labels[0].read().tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_in_samples_do_not_lead_elsewhere(tmp_path, name):
    file = tmp_path / "sample.txt"
    file.write_text(f"a\n{name}\n")
    with pytest.raises(DataError, match=r"line 2: .* is not a valid video name"):
        read_sample(file)
    file.write_text(f"image_location,valence,arousal\n{name}/00001.jpg,\n")
    with pytest.raises(DataError, match=r"line 2: the image should be <video>/<frame number>\.jpg"):
        read_sample(file)


# imports


def test_names_in_a_table_of_features_do_not_lead_elsewhere(tmp_path, outside):
    source, store = tmp_path / "source", tmp_path / "store.zarr"
    source.mkdir()
    np.save(source / "f.npy", np.ones((len(LEADING_OUT) + 1, 3), np.float32))
    names = [*LEADING_OUT, "good"]
    (source / "f.csv").write_text("video,frame\n" + "".join(f"{name},1\n" for name in names))
    summary = import_features(ImportOptions(source, store, "f"))
    assert summary.done == ["good"] and set(summary.failed) == set(LEADING_OUT)
    assert all("cannot be the name of a video" in sentence for sentence in summary.failed.values())
    assert sorted(path.name for path in (store / "features" / "f").iterdir()) == ["good", "zarr.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "source", "store.zarr"]


def test_names_in_archives_lead_nowhere(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    np.savez(source / "a.npz", **{"../values": np.ones((2, 3)), "/tmp/present": np.ones(2, bool)})
    assert import_features(ImportOptions(source, tmp_path / "store.zarr", "f")).done == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "store.zarr"]


def test_a_link_to_itself_is_no_feature(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.npy").symlink_to("a.npy")
    np.save(source / "b.npy", np.ones((2, 3), np.float16))
    summary = import_features(ImportOptions(source, tmp_path / "store.zarr", "f"))
    assert summary.done == ["b"] and list(summary.failed) == ["a"]
    assert summary.failed["a"].endswith("a.npy is a circular link. Delete it, or replace it with the file.")


@pytest.mark.parametrize("shape", [(10**30, 3), (-1, 3), (2**62, 4)])
def test_an_array_that_claims_an_impossible_shape(tmp_path, shape):
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).ljust(118).encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    summary = import_features(ImportOptions(tmp_path, tmp_path / "store.zarr", "f"))
    assert "is not a NumPy array, or is cut off" in summary.failed["a"]


def test_a_damaged_hdf5_file_costs_no_other(tmp_path):
    for name in ("a", "b"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_group(name)["values"] = np.ones((2, 3), np.float32)
    content = (tmp_path / "a.h5").read_bytes()
    for sign in (b"SNOD", b"HEAP"):
        content = content.replace(sign, b"XXXX")
    (tmp_path / "a.h5").write_bytes(content)
    summary = import_features(ImportOptions(tmp_path, tmp_path / "store.zarr", "f"))
    assert summary.done == ["b"] and "a.h5 is damaged (" in summary.failed["a"]


# code


@pytest.mark.parametrize("payload", payloads())
def test_code_in_files_is_not_run(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    pickled = payloads()[payload]
    files = {"w.pt": as_torch(pickled), "w.pkl": pickled, "w.pth": pickled, "w.bin": as_torch(pickled)}
    for name, content in files.items():
        Path(name).write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"opening it could run code, so it was not opened|cannot be read as w"
        ):
            read_tensors(tmp_path / name)
    with pytest.raises(DataError, match=r"opening it could run code|cannot be read as a tensor"):
        read_image_tensor(tmp_path / "w.pt")
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.pt").write_bytes(files["w.pt"])
    np.save(source / "b.npy", np.array([{"a": 1}]), allow_pickle=True)
    summary = import_features(
        ImportOptions(shutil.copytree(source, tmp_path / "c", ignore=lambda *_: ["b.npy"]), tmp_path / "s", "f")
    )
    assert "a.pt" in summary.failed["a"]
    (source / "a.pt").unlink()
    summary = import_features(ImportOptions(source, tmp_path / "s", "f"))
    assert "holds pickled objects, which are not read" in summary.failed["b"]
    assert not Path(CANARY).exists()


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.empty(3, 3, 8, 8, device="meta"), r"not plain numbers\. Save them as float16"),
        (
            torch.zeros(1).expand(10**12, 3, 8, 8),
            r"for 768,000,000,000,000 bytes of values, .* Save tensor\.contiguous\(\) instead",
        ),
        (torch.ones(3, 3, 8, 8).to_sparse(), r"not plain numbers\. Save them as float16"),
    ],
    ids=["no data", "one value as many", "sparse"],
)
def test_a_tensor_without_its_values_is_refused(tmp_path, tensor, words):
    torch.save(tensor, tmp_path / "a.pt")
    with pytest.raises(DataError, match=words):
        read_image_tensor(tmp_path / "a.pt")


# stores


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store with one video and its labels."""
    made = new_store(tmp_path / "store.zarr", {"f": (3,)})
    put_feature(made, "f", "a", np.ones((5, 3)))
    made.write_labels("va", "a", "train", np.full((5, 2), 0.5, np.float32))
    return made


def write_all(store: FeatureStore, place: str) -> None:
    if place == "features/f":
        store.add_feature("f", {"shape": [3], "weights": "none"}, None, "fingerprint of f")
    elif place.startswith("features"):
        writer = store.writer("f", "a", 3, np.arange(3), {"fps": 25.0, "source": "new"})
        writer.write(np.arange(3), np.ones((3, 3), np.float32))
        writer.finish()
    elif place.startswith("labels"):
        store.write_labels("va", "a", "train", np.zeros((3, 2), np.float32))
    else:
        store.notes.write("note", "text")


@pytest.mark.parametrize("place", ["features/f", "features/f/a", "labels/va", "labels/va/a", ".notes"])
def test_nothing_is_written_or_deleted_through_a_link_in_a_store(tmp_path, store, outside, place):
    path = tmp_path / "store.zarr" / place
    if path.exists():
        shutil.rmtree(path)
    path.symlink_to(outside)
    with pytest.raises(AbawError, match="is a link, and a store is never changed through a link"):
        write_all(FeatureStore.create(tmp_path / "store.zarr"), place)
    with pytest.raises(StoreError, match="is a link, and a store is never changed through a link"):
        FeatureStore.create(tmp_path / "store.zarr").drop(place)
    assert_kept(outside)


def test_a_store_may_be_a_link_itself(tmp_path, store):
    (tmp_path / "linked.zarr").symlink_to(tmp_path / "store.zarr")
    write_all(FeatureStore.create(tmp_path / "linked.zarr"), "features/f/a")
    assert len(store.read("f", "a").values) == 3


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_frames", None), ("n_frames", 10**12), ("n_frames", "5"), ("fps", float("nan")), ("dtype", "object")],
)
def test_a_video_whose_attributes_cannot_be_true_is_unfinished(tmp_path, store, key, value):
    edit(tmp_path / "store.zarr/features/f/a/zarr.json", lambda content: content["attributes"].update({key: value}))
    assert store.videos("f") == {} and store.incomplete("f") == ["a"]
    with pytest.raises(StoreError, match=r"its attributes are invalid"):
        store.read("f", "a")


@pytest.mark.parametrize("shape", [None, [10**12], [-1], ["3"], 3])
def test_a_feature_whose_attributes_cannot_be_true_is_told(tmp_path, store, shape):
    file = tmp_path / "store.zarr/features/f/zarr.json"
    edit(file, lambda content: content["attributes"]["spec"].update({"shape": shape}))
    assert store.features() == []
    assert [
        p.sentence for p in verify_store(store, Silent()) if "'f' has damaged attributes and is not read" in p.sentence
    ]


@pytest.mark.parametrize("shape", [[10**12, 3], [10**7, 3]])
def test_an_array_that_claims_more_than_its_files_hold(tmp_path, store, shape):
    place = tmp_path / "store.zarr/features/f/a"
    edit(place / "values/zarr.json", lambda content: content.update({"shape": shape}))
    with pytest.raises(StoreError, match=r"is damaged \(an array claims to have"):
        store.read("f", "a")


@pytest.mark.parametrize(("parent", "words"), [("features", "features"), ("labels", "labels"), ("labels/va", "va")])
def test_a_group_with_damaged_metadata_is_told_when_something_is_written(tmp_path, store, parent, words):
    (tmp_path / "store.zarr" / parent / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=rf"{words}.* is damaged \(.*\)\. Restore its zarr\.json"):
        write_all(FeatureStore.create(tmp_path / "store.zarr"), "labels" if parent != "features" else "features/f")


def test_repair_drops_what_claims_too_much(tmp_path, store):
    place = tmp_path / "store.zarr/features/f/a"
    edit(place / "values/zarr.json", lambda content: content.update({"shape": [10**12, 3]}))
    dropped, left = repair_store(store, Silent())
    assert [problem.path for problem in dropped] == ["features/f/a"] and left == [] and not place.exists()


# runs


@pytest.mark.parametrize("write", [
    lambda path: save_json(path, {"a": 1}),
    lambda path: save_tensors(path, {"a": torch.zeros(2)}, {}),
    lambda path: save_predictions(path, {}, TASKS["va"]),
])  # fmt: skip
def test_a_link_where_a_file_is_made_is_not_followed(tmp_path, outside, write):
    for name in ("file", "file.partial"):
        (tmp_path / name).symlink_to(outside / "kept.txt")
    write(tmp_path / "file")
    assert (tmp_path / "file").is_file() and not (tmp_path / "file").is_symlink()
    assert_kept(outside)


def test_a_folder_where_a_file_is_made_is_told(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(UsageError, match=r"file is a folder, but a file is to be written there\. Move it away\."):
        save_json(tmp_path / "file", {})


def test_a_note_that_is_a_link_to_itself_says_nothing(tmp_path, store):
    store.notes.write("one", "text")
    (tmp_path / "store.zarr" / ".notes" / "two").symlink_to("two")
    assert store.notes.read() == {"one": "text"}


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_a_run_does_not_go_on_through_a_link(tmp_path, outside, name):
    (tmp_path / name).symlink_to(outside / "kept.txt" if name.endswith("l") else outside)
    with pytest.raises(CheckpointError, match=f"{name} is a symbolic link, and a run writes only into its own folder"):
        Log(tmp_path, get_task("va"), 0)
    assert_kept(outside)


def test_predictions_of_another_file_are_not_read(tmp_path):
    one = VideoPrediction(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32), np.ones(2, bool), 25.0)
    save_predictions(tmp_path / "p.h5", {"a": one}, TASKS["va"])
    shutil.copy(tmp_path / "p.h5", tmp_path / "other.h5")
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        del file["a"]
        file["a"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")
    with pytest.raises(ValueError, match="a is missing or a link"):
        load_predictions(tmp_path / "p.h5")


# options and words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"x = {'[' * 5000}{']' * 5000}", "is not valid TOML"),
        (f"x = {'1' * 5000}", "is not valid TOML"),
        ('task = "va"\nfeatures = ["f"]\n[head]\nname = "gru"\nlayers = 1000000000000\n', "less than or equal to 256"),
        ('task = "va"\nfeatures = ["f"]\nwindow = 1000000000000\n', "less than or equal to 1000000"),
    ],
)
def test_recipes_that_would_take_all_memory_or_time(tmp_path, text, words):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        load_recipe(str(tmp_path / "r.toml"))


def test_a_head_of_too_many_parameters_is_not_built(tmp_path, run_cli):
    new_store(tmp_path / "store.zarr", {"f": (4,)})
    text = 'task = "va"\nfeatures = ["f"]\n[head]\nname = "transformer"\ndim = 65536\nheads = 4\n'
    (tmp_path / "r.toml").write_text(text)
    found: Result = run_cli(
        "train", "--recipe", tmp_path / "r.toml", "--store", tmp_path / "store.zarr", "--device", "cpu"
    )
    assert (
        found.exit_code == 2 and "parameters with these options, more than the limit of 2,000,000,000" in found.output
    )


def test_an_error_is_one_line_that_can_be_shown():
    assert str(DataError("a\nb \x1b[31m \udcff \u202e c")) == "a b \\x1b[31m \\udcff \\u202e c"
    assert len(str(DataError("x" * 10**6))) < 11_000


def test_a_name_that_looks_like_markup_is_shown_as_it_is(tmp_path, make_data, run_cli):
    found = run_cli("doctor", "--data", make_data({"[red]a": 1, "b\x1b[31m": 1}, tmp_path / "data"))
    assert "[red]a" in found.output and "b\\x1b[31m" in found.output
