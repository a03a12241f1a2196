"""Files of others at every entrance: no code of theirs is run, no format is opened that is not wanted, no link followed."""

import ast
import builtins
import io
import os
import pickle
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from abaw.backbones.audio.vggish import Vggish
from abaw.backbones.audio.vggish_pca import load_pca
from abaw.backbones.backbone import create_backbone
from abaw.backbones.checkpoint_files import open_checkpoint
from abaw.backbones.safe_pickle import describe_refused, read_inert
from abaw.backbones.weights import read_tensors
from abaw.core.errors import AbawError, CheckpointError, DataError
from abaw.datasets.stills.still_images import STILL_FORMATS
from abaw.datasets.synth.cutouts import read_background, read_cutout
from abaw.exchange.importer import ImportOptions, import_features
from abaw.exchange.tensor_files import load_tensor
from abaw.media.clock_cache import folder as kept_folder
from abaw.media.clock_cache import load as load_kept
from abaw.media.clock_cache import save as save_kept
from abaw.media.images import FORMATS, open_upright, read_image
from abaw.media.tensors import read_image_tensor
from abaw.store import FeatureStore
from abaw.studies.house import modules_of
from abaw.tests.support.paths import CHECKOUT
from abaw.train.checkpoint import load_tensors

WIDTH = 4


class Trap:
    """Makes a file or a folder when it is unpickled."""

    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


TRAPS = {
    "a method of paths": lambda place: Trap(Path.touch, place),
    "os": lambda place: Trap(os.mkdir, str(place)),
    "exec": lambda place: Trap(builtins.exec, f"open({str(place)!r}, 'w').close()"),
    "open": lambda place: Trap(builtins.open, str(place), "w"),
    "numpy": lambda place: Trap(np.ndarray.tofile, np.zeros(3), str(place)),
}


def by_torch(content: object, file: Path) -> None:
    torch.save(content, file)


def by_old_torch(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def bare(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


def bare_and_new(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=4))


def around_tensors(content: object, file: Path) -> None:
    torch.save({"weight": torch.zeros(3), "more": [content]}, file)


FORMS = [by_torch, by_old_torch, bare, bare_and_new, around_tensors]


@pytest.fixture
def sprung(tmp_path: Path) -> Iterator[Path]:
    """Where a trap leaves its mark; the test fails where there is one at the end."""
    place = tmp_path / "sprung"
    yield place
    assert not place.exists(), "code of the file was run"


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("write", FORMS)
def test_traps_do_spring(tmp_path, trap, write):
    """They are traps: whoever opens them without care runs them."""
    place = tmp_path / "sprung"
    write(TRAPS[trap](place), tmp_path / "file")
    with suppress(Exception):  # a bare pickle runs before it is found to be of another kind
        torch.load(tmp_path / "file", weights_only=False)
    assert place.exists()


TENSOR_READERS = [read_image_tensor, load_tensor]


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("name", ["v.pt", "v.pth", "v.mp4.img.3.pt"])
@pytest.mark.parametrize("write", FORMS)
def test_a_tensor_file_runs_nothing(tmp_path, sprung, write, name, trap):
    write(TRAPS[trap](sprung), tmp_path / name)
    for read in TENSOR_READERS:
        with pytest.raises(DataError):
            read(tmp_path / name)


CHECKPOINT_READERS = [
    *(open_checkpoint, read_tensors, lambda file: create_backbone("fer", file)),
    *(load_tensors, describe_refused, read_inert),
]


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("write", FORMS)
def test_a_checkpoint_runs_nothing(tmp_path, sprung, write, name, trap):
    write(TRAPS[trap](sprung), tmp_path / name)
    for read in CHECKPOINT_READERS:
        with suppress(Exception):  # some open what is beside the trap
            read(tmp_path / name)
        assert not sprung.exists(), read


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin"])
@pytest.mark.parametrize("write", FORMS)
def test_what_would_run_code_is_refused(tmp_path, sprung, write, name):
    write(TRAPS["os"](sprung), tmp_path / name)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / name)


def objects(trap: Trap) -> np.ndarray:
    found = np.empty((3, WIDTH), dtype=object)
    found[:] = 1.0
    found[0, 0] = trap
    return found


def pickled_npy(source: Path, trap: Trap) -> None:
    np.save(source / "v.npy", objects(trap), allow_pickle=True)


def pickled_mask(source: Path, trap: Trap) -> None:
    np.save(source / "v.npy", np.ones((3, WIDTH)))
    np.save(source / "v.present.npy", objects(trap)[:, 0], allow_pickle=True)


def pickled_values(source: Path, trap: Trap) -> None:
    np.savez(source / "v.npz", values=objects(trap))


def pickled_numbers(source: Path, trap: Trap) -> None:
    np.savez(source / "v.npz", values=np.ones((3, WIDTH)), frames=objects(trap)[:, 0])


def pickled_present(source: Path, trap: Trap) -> None:
    np.savez_compressed(source / "v.npz", values=np.ones((3, WIDTH)), present=objects(trap)[:, 0])


def pickled_frame(source: Path, trap: Trap) -> None:
    (source / "v").mkdir()
    np.save(source / "v/00001.npy", np.ones(WIDTH))
    np.save(source / "v/00002.npy", objects(trap)[0], allow_pickle=True)


def pickled_first_frame(source: Path, trap: Trap) -> None:
    (source / "v").mkdir()
    np.save(source / "v/1.npy", objects(trap)[0], allow_pickle=True)


def pickled_table(source: Path, trap: Trap) -> None:
    np.save(source / "features.npy", objects(trap), allow_pickle=True)
    (source / "features.csv").write_text("video,frame\nv,1\nv,2\nv,3\n")


def bare_npy(source: Path, trap: Trap) -> None:
    bare(trap, source / "v.npy")


def bare_npz(source: Path, trap: Trap) -> None:
    bare(trap, source / "v.npz")


def bare_h5(source: Path, trap: Trap) -> None:
    bare(trap, source / "v.h5")


def tensor_pt(source: Path, trap: Trap) -> None:
    by_torch(trap, source / "v.pt")


def old_tensor_pt(source: Path, trap: Trap) -> None:
    by_old_torch(trap, source / "v.pt")


def bare_pt(source: Path, trap: Trap) -> None:
    bare(trap, source / "v.pt")


def bare_clip(source: Path, trap: Trap) -> None:
    bare(trap, source / "v.mp4.img.3.pt")


SOURCES = [
    *(pickled_npy, pickled_mask, pickled_values, pickled_numbers, pickled_present, pickled_frame, pickled_first_frame),
    *(pickled_table, bare_npy, bare_npz, bare_h5, tensor_pt, old_tensor_pt, bare_pt, bare_clip),
]


@pytest.mark.parametrize("write", SOURCES)
def test_an_import_runs_nothing(tmp_path, sprung, write):
    source = tmp_path / "source"
    source.mkdir()
    write(source, TRAPS["os"](sprung))
    try:
        summary = import_features(ImportOptions(source, store=tmp_path / "store.zarr", feature="f", fps=25.0))
        assert list(summary.failed) == ["v"] and summary.done == []
    except AbawError:  # of the only file
        pass
    assert not (tmp_path / "store.zarr/features/f/v").exists()


@pytest.mark.parametrize("name", ["vggish_pca_params.npz", "vggish_pca_params.pth"])
@pytest.mark.parametrize("write", [bare, by_torch, by_old_torch, "objects"])
def test_a_projection_runs_nothing(tmp_path, sprung, name, write):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vggish.pth")
    trap = TRAPS["os"](sprung)
    if write == "objects":
        with (tmp_path / name).open("wb") as stream:
            np.savez(stream, pca_eigen_vectors=objects(trap), pca_means=objects(trap))
    else:
        write(trap, tmp_path / name)
    with torch.device("meta"):
        network = Vggish(("pca",))
    with pytest.raises(Exception):  # noqa: B017  of NumPy, or one of ours
        load_pca(network, tmp_path / "vggish.pth")


def test_what_is_kept_of_files_runs_nothing(sprung):
    save_kept("plain", {"x": np.arange(3)})
    found = load_kept("plain")
    assert found is not None and found["x"].tolist() == [0, 1, 2]
    place = kept_folder()
    assert place is not None
    trap = TRAPS["os"](sprung)
    np.savez(place / "objects.npz", x=objects(trap))
    bare(trap, place / "bare.npz")
    assert load_kept("objects") is None and load_kept("bare") is None


# pictures

ENTRANCES = {
    "read_image": read_image,
    "open_upright": open_upright,
    "read_background": lambda file: read_background(file, 64),
    "read_cutout": lambda file: read_cutout(file, 64),
}
WANTED = {"JPEG", "PNG", "WEBP", "BMP", "GIF", "MPO"}  # MPO is a JPEG with another one behind it


def savable() -> list[str]:
    Image.init()
    return sorted(Image.SAVE)


def written(kind: str, pictures: Image.Image) -> bytes | None:
    for mode in ("RGB", "L", "1"):
        stream = io.BytesIO()
        try:
            pictures.convert(mode).save(stream, kind)
            return stream.getvalue()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # this build, or this mode, has not got it
            continue
    return None


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", savable())
def test_only_wanted_formats_are_opened_whatever_a_file_is_called(tmp_path, entrance, kind):
    content = written(kind, Image.new("RGB", (32, 32), (200, 100, 50)))
    if content is None:
        pytest.skip(f"Pillow cannot write {kind} here")
    for name in ("1.png", "1.jpg"):
        (tmp_path / name).write_bytes(content)
        if kind in WANTED:
            ENTRANCES[entrance](tmp_path / name)
        else:
            with pytest.raises(DataError, match=r"is a .* image, which is not supported|is not an image"):
                ENTRANCES[entrance](tmp_path / name)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", ["1.png", "1.jpg", "1.jpeg", "1.bmp", "1.webp"])
def test_postscript_never_reaches_a_program(tmp_path, monkeypatch, sprung, entrance, name):
    program = tmp_path / "programs/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    Image.new("RGB", (32, 32)).save(tmp_path / name, "EPS")
    with pytest.raises(DataError, match="is not an image"):
        ENTRANCES[entrance](tmp_path / name)


def png_of(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def jpeg_of(width: int, height: int) -> bytes:
    content = bytearray(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), dtype=np.uint8)))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def bmp_of(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "BMP")
    content = bytearray(stream.getvalue())
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def gif_of(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "GIF")
    content = bytearray(stream.getvalue())
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def webp_of(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "WEBP", lossless=True)
    content = bytearray(stream.getvalue())
    bits = struct.unpack("<I", content[21:25])[0] >> 28 << 28 | (height - 1) << 14 | (width - 1)
    content[21:25] = struct.pack("<I", bits)
    return bytes(content)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("make", [png_of, jpeg_of, bmp_of, gif_of, webp_of])
@pytest.mark.parametrize("size", [(16_000, 16_000), (16_380, 15_300)])
def test_a_small_file_that_claims_to_be_huge_is_refused_at_every_entrance(tmp_path, entrance, make, size):
    (tmp_path / "1.png").write_bytes(make(*size))
    with pytest.raises(DataError, match=r"[\d,]+ x [\d,]+ pixels"):
        ENTRANCES[entrance](tmp_path / "1.png")


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_jpeg_of_very_many_scans_is_refused_at_every_entrance(tmp_path, entrance):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    (tmp_path / "1.jpg").write_bytes(content)
    ENTRANCES[entrance](tmp_path / "1.jpg")
    start = content.rindex(b"\xff\xda")  # the last scan, which refines what is there
    (tmp_path / "1.jpg").write_bytes(content[:start] + content[start:-2] * 120 + content[-2:])
    with pytest.raises(DataError, match="more than 100 scans"):
        ENTRANCES[entrance](tmp_path / "1.jpg")


# HDF5


@pytest.mark.parametrize(
    "link",
    [lambda: h5py.ExternalLink("secret.h5", "/b"), lambda: h5py.SoftLink("/a")],
    ids=["another file", "another group"],
)
def test_groups_that_are_links_are_not_followed(tmp_path, link):
    values = np.ones((3, WIDTH), dtype=np.float32)
    source = tmp_path / "source"
    source.mkdir()
    with h5py.File(source / "secret.h5", "w") as file:
        file["b/values"] = values * 7
    (source / "secret.h5").rename(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["a/values"] = values
        file["b"] = link()
        file["c/values"] = link() if isinstance(link(), h5py.SoftLink) else h5py.ExternalLink("secret.h5", "/b/values")
    options = ImportOptions(tmp_path / "all.h5", store=tmp_path / "store.zarr", feature="f", fps=25.0)
    summary = import_features(options)
    assert summary.done == ["a"] and sorted(summary.failed) == ["b", "c"]
    assert "link" in summary.failed["b"] and "links are not followed" in summary.failed["c"]
    assert list(FeatureStore.open(tmp_path / "store.zarr").videos("f")) == ["a"]


# calls in the package that open files of others


def calls() -> dict[str, list[tuple[list[str], dict[str, str]]]]:
    """Arguments and keyword arguments of each call in the package, as they are written, by function (`torch.load`)."""
    found: dict[str, list[tuple[list[str], dict[str, str]]]] = {}
    for file in modules_of(CHECKOUT).values():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                keywords = {keyword.arg or "**": ast.unparse(keyword.value) for keyword in node.keywords}
                arguments = [ast.unparse(argument) for argument in node.args]
                found.setdefault(ast.unparse(node.func), []).append((arguments, keywords))
    return found


def test_every_call_that_opens_files_of_others_has_its_guard():
    found = calls()
    guards = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", "False")}
    guards["Image.open"] = ("formats", "formats")
    for function, (keyword, value) in guards.items():
        assert {keywords.get(keyword) for _, keywords in found[function]} == {value}, function
    assert not {"EPS", "PSD"} & {*FORMATS, *STILL_FORMATS}, "Pillow starts a program for the first"
    for function in ("pickle.load", "pickle.loads", "torch.jit.load", "torch.hub.load", "marshal.loads", "yaml.load"):
        assert function not in found
    assert len(found["joblib.load"]) == 1, "only the weights of one release of MTCNN, checked by sha256"
    reads = [keywords for arguments, keywords in found["av.open"] if "'w'" not in arguments]
    assert reads and all("format_whitelist" in keywords.get("options", "") for keywords in reads)
    assert [name for name in found if name.endswith((".extractall", ".extract_all", ".unpack_archive"))] == []
