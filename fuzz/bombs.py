"""Bombs: small files that claim, or unpack to, far more than they hold, and large ones that are slow to read.

Each takes the place of a valid file of a kind, and is given to what reads that kind: the outcome is a result or one
sentence, within seconds and a bounded peak of memory. `worker` measures both; `python -m abaw.fuzz.bombs` prints them.
"""

import argparse
import io
import json
import pickle
import struct
import sys
import tempfile
import time
import wave
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import h5py
import numpy as np
from PIL import Image

Writer = Callable[[Path], object]
MB = 10**6


class Bomb(NamedTuple):
    """What is put in place of a file of a kind, what is done with it, and the memory in bytes that this may take."""

    kind: str
    route: str
    file: str
    write: Writer
    most_bytes: int = 900 * MB


def text(content: str, n: int = 1, head: str = "") -> Writer:
    """A text many times."""

    def write(file: Path) -> None:
        with file.open("w", encoding="utf-8") as stream:
            stream.write(head)
            block = content * min(n, 10_000)
            for _ in range(n // min(n, 10_000)):
                stream.write(block)

    return write


def archive(member: str, shape: tuple[int, ...], unpacked: int) -> Writer:
    """A zip archive whose array unpacks to `unpacked` bytes of zeros, at a thousandth of the size."""

    def write(file: Path) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
            packed.open(member, "w", force_zip64=True) as out,
        ):
            out.write(header.getvalue())
            for _ in range(unpacked // 2**24):
                out.write(bytes(2**24))

    return write


def many_members(n: int) -> Writer:
    """An archive of many empty files."""

    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w") as packed:
            for number in range(n):
                packed.writestr(f"{number}.npy", b"")

    return write


def torch_archive(pickled: bytes, unpacked: int = 0, name: str = "archive") -> Writer:
    """A file of torch.save whose only storage is compressed zeros."""

    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.writestr(f"{name}/data.pkl", pickled)
            packed.writestr(f"{name}/byteorder", b"little")
            with packed.open(f"{name}/data/0", "w", force_zip64=True) as out:
                for _ in range(unpacked // 2**24):
                    out.write(bytes(2**24))
            packed.writestr(f"{name}/version", b"3\n")

    return write


def tensor_pickle(shape: tuple[int, ...], key: str = "") -> bytes:
    """The pickle of a float32 tensor in storage 0, or of a dict with it."""
    n = int(np.prod(shape, dtype=np.float64))
    stride = tuple(int(np.prod(shape[number + 1 :], dtype=np.int64)) for number in range(len(shape)))

    def integers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(pickle.dumps(value, 2)[2:-1] for value in values) + b"t"

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    storage += pickle.dumps(n, 2)[2:-1] + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + integers(shape) + integers(stride)
    rebuilt += b"\x89ccollections\nOrderedDict\n)RtR"
    if key:
        rebuilt = b"}X" + struct.pack("<I", len(key)) + key.encode() + rebuilt + b"s"
    return b"\x80\x02" + rebuilt + b"."


def shared_nest(depth: int) -> bytes:
    """A pickle of a dict that holds one dict twice, and so on: a walk over it never ends."""
    opened: dict[str, Any] = {}
    for _ in range(depth):
        opened = {"a": opened, "b": opened}
    return pickle.dumps(opened, 2)


def hdf5(make: Callable[[h5py.File], object]) -> Writer:
    """An HDF5 file."""

    def write(file: Path) -> None:
        with h5py.File(file, "w") as opened:
            make(opened)

    return write


def claimed_values(shape: tuple[int, ...], chunks: tuple[int, ...], **options: Any) -> Callable[[h5py.File], object]:
    """Values of a shape, of which not one is stored."""
    return lambda file: file.create_dataset("values", shape=shape, chunks=chunks, dtype="f2", **options)


def packed_zeros(file: h5py.File) -> None:
    """Zeros in chunks that are compressed to a thousandth, 4 GB in all; every chunk is stored."""
    values = file.create_dataset("values", shape=(500_000, 4096), chunks=(8192, 4096), dtype="f2", compression="gzip")
    chunk = zlib.compress(bytes(8192 * 4096 * 2), 1)
    for start in range(0, 500_000, 8192):
        values.id.write_direct_chunk((start, 0), chunk)


def one_chunk(file: h5py.File) -> None:
    """A chunk of 600 MB that is compressed to 600 kB: reading one row unpacks all of it."""
    n = 150_000_000
    values = file.create_dataset("values", shape=(n, 2), chunks=(n, 2), dtype="f2", compression="gzip")
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(min(2**24, n * 4 - start))) for start in range(0, n * 4, 2**24)]
    values.id.write_direct_chunk((0, 0), b"".join([*parts, packer.flush()]))


def unknown_filter(file: h5py.File) -> None:
    """Values behind a filter that would have to be loaded as a plug-in."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((4, 3))
    layout.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((4, 3))
    stored = h5py.h5d.create(file.id, b"values", h5py.h5t.IEEE_F32LE, space, dcpl=layout)
    stored.write_direct_chunk((0, 0), bytes(48), filter_mask=0)


def many_groups(file: h5py.File) -> None:
    """Many groups without values."""
    for number in range(3000):
        file.create_group(f"v{number}")


def deep_groups(file: h5py.File) -> None:
    """Groups in groups."""
    group = file
    for _ in range(2000):
        group = group.create_group("g")
    group["values"] = np.ones((4, 3), np.float32)


def safetensors(header: bytes) -> Writer:
    """A header, and no values."""
    return lambda file: file.write_bytes(struct.pack("<Q", len(header)) + header)


def many_tensors() -> bytes:
    """A header of many tensors without values."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return json.dumps({f"layer.{number}.weight": entry for number in range(150_000)}).encode()


def png(width: int, height: int, mode: int, content: bytes = b"") -> bytes:
    """A PNG of one colour type that says a size and holds a part of it."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", content or zlib.compress(b"")) + part(b"IEND", b"")
    )


def png_with_text(file: Path) -> None:
    """A small PNG with a text that unpacks to 1 GB."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    body = b"Comment\0\0" + packed
    made = png(8, 8, 2, zlib.compress(bytes(8 * 25)))
    extra = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    file.write_bytes(made[:33] + extra + made[33:])


def animated(form: str, n: int, **options: Any) -> Writer:
    """An animation."""

    def write(file: Path) -> None:
        frames = [Image.new("RGB", (64, 64), (number % 256, 0, 0)) for number in range(n)]
        frames[0].save(file, form, save_all=True, append_images=frames[1:], **options)

    return write


def video(file: Path, sizes: tuple[tuple[int, int], ...], n: int = 8, form: str = "mpegts") -> None:
    """Pictures of several sizes, one after another, in one stream."""
    with file.open("wb") as out:
        for width, height in sizes:
            part = io.BytesIO()
            with av.open(part, "w", format=form) as container:
                stream = container.add_stream("mpeg4", rate=10)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for number in range(n):
                    picture = av.VideoFrame(width, height, "yuv420p")
                    for plane in picture.planes:
                        plane.update(bytes([number]) * plane.buffer_size)
                    container.mux(stream.encode(picture))
                container.mux(stream.encode(None))
            out.write(part.getvalue())


def million_frames(box: bytes, at: int, value: int) -> Writer:
    """An MP4 whose table claims many entries."""

    def write(file: Path) -> None:
        video(file, ((64, 32),), form="mp4")
        content = bytearray(file.read_bytes())
        start = content.index(box) + 4 + at
        content[start : start + 4] = struct.pack(">I", value)
        file.write_bytes(content)

    return write


def silence(seconds: int) -> Writer:
    """FLAC of silence: an hour is some kilobytes."""

    def write(file: Path) -> None:
        with av.open(str(file), "w", format="flac") as container:
            stream = container.add_stream("flac", rate=48000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
            frame.sample_rate = 48000
            (packet,) = [*stream.encode(frame), *stream.encode(None)][:1]
            content = bytes(packet)
            for number in range(seconds * 48000 // 4096):
                part = av.Packet(content)
                part.stream, part.time_base = stream, Fraction(1, 48000)
                part.pts, part.dts, part.duration = number * 4096, number * 4096, 4096
                container.mux(part)

    return write


def wav_claim(file: Path) -> None:
    """A header that says 10^9 samples, and one second of them."""
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(bytes(32000))
    content = bytearray(file.read_bytes())
    content[4:8], content[40:44] = struct.pack("<I", 2 * 10**9 + 36), struct.pack("<I", 2 * 10**9)
    file.write_bytes(content)


def zarr_array(shape: list[int], chunk: list[int], **changes: Any) -> Writer:
    """The metadata of an array in place of another's."""

    def write(file: Path) -> None:
        content = json.loads(file.read_bytes())
        grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
        file.write_text(json.dumps({**content, "shape": shape, "chunk_grid": grid, **changes}))

    return write


VA = "data/VA_Estimation_Challenge/Train_Set/v.txt"
VALUES, MASK, LABELS = (
    f"store.zarr/{name}/zarr.json" for name in ("features/f/a/values", "features/f/a/present", "labels/va/a")
)
PLAIN = [{"name": "bytes", "configuration": {"endian": "little"}}]
LONG_LINE = text("0.123,", 10_000_000)  # 60 MB
ROWS = 2_000_000
BOMBS: dict[str, Bomb] = {
    "a gigabyte": Bomb("trial", "take", "file.pkl", text("")),  # shows that too much memory is noticed
    "labels in one line": Bomb("label", "read", VA, LONG_LINE),
    "labels of more frames than any video": Bomb("label", "read", VA, text("0.1,0.2\n", 12_000_000, "valence,arousal\n")),
    "annotations of millions of lines": Bomb("label", "doctor", "data/training_set_annotations.txt", text("v\n", ROWS)),
    "classes of millions of lines": Bomb("label", "doctor", "data/Train_labels.txt", text("1_1 3\n", ROWS, "Vid_name Label\n")),
    "synthetic classes of millions of lines": Bomb("label", "doctor", "data/synthetic/Positive_labels.txt", text("clip_1\n", ROWS)),
    "a sample of millions of lines": Bomb("sample", "read", "va-sample.txt", text("v/1.jpg,\n", ROWS, "image_location,valence,arousal\n")),
    "a sample in one line": Bomb("sample", "read", "va-sample.txt", LONG_LINE),
    "an answer of millions of lines": Bomb("sample", "check", "va-answer.txt", text("v/1.jpg,0,0\n", ROWS, "image_location,valence,arousal\n")),
    "a task of megabytes": Bomb("task", "read", "mine.toml", text('"a",', 10_000_000, "outputs = [")),
    "a task of nested lists": Bomb("task", "read", "mine.toml", text("[", 10 * MB, "range = ")),
    "a task of many outputs": Bomb("task", "read", "mine.toml", lambda file: file.write_text(
        'name = "mine"\nlevel = "clip"\nkind = "regression"\nrange = [0, 1]\nmeasure = "mse"\noutputs = ["'
        + '", "'.join(map(str, range(500_000))) + '"]\n')),
    "a table of labels in one line": Bomb("task", "labels", "mine/labels.csv", LONG_LINE),
    "a table of labels of millions of lines": Bomb("task", "labels", "mine/labels.csv", text(
        "a,train,x,0,1\n", ROWS, "clip,split,who,smile,frown\n")),
    "a table of many columns": Bomb("task", "labels", "mine/labels.csv", text("a,", 5_000_000, "clip,")),
    "people of millions of lines": Bomb("task", "labels", "mine/people.csv", text("a,x\n", ROWS, "video,person\n")),
    "a split of millions of lines": Bomb("task", "labels", "bah/split/train.txt", text("a,1,x\n", ROWS)),
    "a transcript of megabytes": Bomb("task", "labels", "bah/split/train.txt", text("x,", 30_000_000, "a/b/c.mp4,1,")),
    "frames of violence by the million": Bomb("task", "labels", "dvd/labels/Training/0001.csv", text("1,0\n", ROWS, "Frame_Number,Label\n")),
    "a frame of violence that claims": Bomb("task", "labels", "dvd/labels/Training/0001.csv", text("9999999,1\n", 1, "Frame_Number,Label\n")),
    "intensities of millions of lines": Bomb("task", "labels", "emi/train_split.csv", text(
        "a,0,0,0,0,0,0\n", ROWS, "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy\n")),
    "an engagement of millions of lines": Bomb("task", "labels", "engagement/Train/a.txt", text("1\n", ROWS)),
    "a transcript of nested lists": Bomb("transcript", "read", "of-a-video/c.json", text("[", 5 * MB, '{"segments": ')),
    "a transcript of millions of segments": Bomb("transcript", "read", "of-a-video/c.json", text("[],", 10_000_000, '{"segments": [')),
    "a transcript in one line of yaml": Bomb("transcript", "read", "of-a-video/a.yml", text("[", 5 * MB, "chunks: ")),
    "a transcript of anchors that grow": Bomb("transcript", "read", "of-a-video/a.yml", lambda file: file.write_text(
        "a0: &a0 {text: x, timestamp: [0, 1]}\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
        + "chunks: *a11\n")),
    "subtitles of millions of lines": Bomb("transcript", "read", "of-a-video/e.srt", text("1\n00:00:00,5 --> 00:00:01,0\nyes\n\n", ROWS)),
    "subtitles in one line": Bomb("transcript", "read", "of-a-video/f.vtt", text("<", 50 * MB, "WEBVTT\n\n00:00.500 --> 00:01.000\n")),
    "texts of clips by the million": Bomb("transcript", "find", "of-all/g.csv", text("v.mp4,yes,0.5,1.0\n", ROWS, "clip,text,start,end\n")),
    "faces of millions of rows": Bomb("import", "import", "openface2/a.csv", text("1,0,0,.9,1,1\n", ROWS, "frame,face_id,timestamp,confidence,success,AU01_r\n")),
    "faces in one line": Bomb("import", "import", "openface2/a.csv", text("0.5,", 15_000_000, "frame,face_id,timestamp,confidence,success,AU01_r\n")),
    "a frame of a face that claims": Bomb("import", "import", "openface2/a.csv", text(
        "9999999,0,0,.9,1,1\n", 1, "frame,face_id,timestamp,confidence,success,AU01_r\n")),
    "people in one line": Bomb("task", "labels", "mine/people.csv", text("a,x,", 15_000_000, "video,person\n")),
    "texts of clips in one line": Bomb("transcript", "find", "of-all/g.csv", text("a,", 30_000_000, "clip,text\n")),
    "a recipe of megabytes": Bomb("recipe", "read", "recipe.toml", text("features = ['f']\n", 500_000)),
    "a recipe of one long text": Bomb("recipe", "read", "recipe.toml", text("x", 50 * MB, "task = '")),
    "a recipe of nested lists": Bomb("recipe", "read", "recipe.toml", text("[", 10 * MB, "a = ")),
    "a recipe of dotted keys": Bomb("recipe", "read", "recipe.toml", text("a.", 1 * MB)),
    "a cluster of many tables": Bomb("recipe", "cluster", "local.toml", lambda file: file.write_text("".join(f"[a.b{n}]\n" for n in range(300_000)))),
    "a config of megabytes": Bomb("run", "open", "runs/r/config.json", text("[1],", 10_000_000, '{"config": [')),
    "a config of nested lists": Bomb("run", "open", "runs/r/config.json", text("[", 10 * MB)),
    "metrics in one line": Bomb("run", "report", "runs/r/metrics.jsonl", text('{"a":1}', 8_000_000)),
    "metrics of millions of lines": Bomb("run", "report", "runs/r/metrics.jsonl", text('{"epoch": 1}\n', ROWS)),
    "an ensemble of many members": Bomb("run", "open", "runs/e/ensemble.json", text('"r",', 10_000_000, '{"members": [')),
    "predictions that claim": Bomb("run", "eval", "runs/r/predictions-val.h5", hdf5(claimed_values((10**7, 10**4), (1, 1)))),
    "a table in one line": Bomb("import", "import", "table/features.csv", text("a,1,", 20_000_000, "video,frame\n")),
    "a table of millions of rows": Bomb("import", "import", "table/features.csv", text("a,1\n", ROWS, "video,frame\n")),
    "npz of zeros": Bomb("import", "import", "npz/a.npz", archive("values.npy", (131_072, 4096), 2**30)),
    "npz that claims": Bomb("import", "import", "npz/a.npz", archive("values.npy", (10**7, 10**6), 2**24)),
    "npz of many members": Bomb("import", "import", "npz/a.npz", many_members(20_000)),
    "npy that claims": Bomb("import", "import", "arrays/a.npy", lambda file: file.write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f2', 'fortran_order': False, 'shape': (9999999, 999999), }".ljust(118))),
    "hdf5 that claims, in tiny chunks": Bomb("import", "import", "h5/a.h5", hdf5(claimed_values((10**7, 10**5), (1, 1)))),
    "hdf5 that claims, in one chunk": Bomb("import", "import", "h5/a.h5", hdf5(claimed_values((10**6, 1000), (10**6, 1000)))),
    "hdf5 of packed zeros": Bomb("import", "import", "h5/a.h5", hdf5(packed_zeros)),
    "hdf5 of one packed chunk": Bomb("import", "import", "h5/a.h5", hdf5(one_chunk)),
    "hdf5 with a filter of a plug-in": Bomb("import", "import", "h5/a.h5", hdf5(unknown_filter)),
    "hdf5 of many groups": Bomb("import", "import", "one/all.h5", hdf5(many_groups)),
    "hdf5 of deep groups": Bomb("import", "import", "one/all.h5", hdf5(deep_groups)),
    "a tensor of packed zeros": Bomb("import", "import", "tensors/a.pt", torch_archive(tensor_pickle((2**18, 512)), 2**29)),
    "pictures of packed zeros": Bomb("tensor", "images", "a.mp4.img.3.pt", torch_archive(tensor_pickle((64, 3, 1024, 1024)), 3 * 2**28)),
    "weights of packed zeros": Bomb("weights", "read", "w.pt", torch_archive(tensor_pickle((2**18, 512), "pos_embed"), 2**29)),
    "weights that hold themselves many times": Bomb("weights", "read", "w.pt", torch_archive(shared_nest(40))),
    "weights of many tensors": Bomb("weights", "read", "w.safetensors", lambda file: safetensors(many_tensors())(file)),
    "weights with a header of one text": Bomb("weights", "read", "w.safetensors", safetensors(b'{"__metadata__":{"a":"' + b"x" * 20 * MB + b'"}}')),
    "weights that claim a header": Bomb("weights", "read", "w.safetensors", lambda file: file.write_bytes(struct.pack("<Q", 2**62) + b"{}")),
    "weights of nested lists": Bomb("weights", "read", "w.pkl", lambda file: file.write_bytes(b"\x80\x02" + b"]" * 500_000 + b"." )),
    "an array of megabytes of brackets": Bomb("weights", "check", "w.safetensors", safetensors(b"[" * 20 * MB)),
    "a png that claims": Bomb("crop", "read", "data/cropped_aligned/v/00005.png", lambda file: file.write_bytes(png(65_000, 65_000, 2))),
    "a png of the most pixels, empty": Bomb("crop", "read", "data/cropped_aligned/v/00005.png", lambda file: file.write_bytes(png(15_000, 15_000, 6)), 2000 * MB),
    "a png with a packed text": Bomb("crop", "read", "data/cropped_aligned/v/00005.png", png_with_text),
    "a gif of many pictures": Bomb("crop", "read", "data/cropped_aligned/v/00009.jpg", animated("GIF", 500)),
    "a webp of many pictures": Bomb("crop", "read", "data/cropped_aligned/v/00008.jpg", animated("WEBP", 100, minimize_size=False)),
    "an avif": Bomb("crop", "read", "data/cropped_aligned/v/00008.jpg", lambda file: Image.new("RGB", (2000, 2000)).save(file, "AVIF")),
    "a video that grows": Bomb("media", "pictures", "a.mp4", lambda file: video(file, ((64, 32), (4096, 2160), (64, 32)))),
    "a video that claims samples": Bomb("media", "times", "a.mp4", million_frames(b"stsz", 8, 2**31 - 1)),
    "a video that claims times": Bomb("media", "times", "a.mp4", million_frames(b"stts", 8, 2**31 - 1)),
    "a video that claims chunks": Bomb("media", "times", "a.mp4", million_frames(b"stsc", 12, 2**31 - 1)),
    "a video of samples of one size": Bomb("media", "pictures", "a.mp4", million_frames(b"stsz", 4, 1)),
    "an hour of silence": Bomb("media", "sound", "d.wav", silence(3600), 2000 * MB),
    "sound that claims": Bomb("media", "sound", "d.wav", wav_claim),
    "a store that claims values": Bomb("store", "read", VALUES, zarr_array([10**7, 3], [256, 3])),
    "a store that claims chunks": Bomb("store", "read", VALUES, zarr_array([10**7, 3], [1, 3])),
    "a store that claims width": Bomb("store", "table", VALUES, zarr_array([5, 10**12], [5, 10**12])),
    "a store of tiny chunks": Bomb("store", "verify", MASK, zarr_array([10**12], [1])),
    "labels that claim": Bomb("store", "verify", LABELS, zarr_array([10**9, 2], [10**9, 2])),
    "labels of an unknown codec": Bomb("store", "verify", LABELS, zarr_array([5, 2], [5, 2], codecs=[*PLAIN, {"name": "blosc", "configuration": {"typesize": 10**9}}])),
    "a video of many attributes": Bomb("store", "info", "store.zarr/features/f/a/zarr.json", text("[1],", 10_000_000, '{"attributes": [')),
    "a video of nested attributes": Bomb("store", "info", "store.zarr/features/f/a/zarr.json", text("[", 5 * MB, '{"attributes": ')),
    "a claim of megabytes": Bomb("store", "claim", "store.zarr/.notes/claim-1/zarr.json", text("[", 5 * MB, '{"attributes": ')),
    "a record of megabytes": Bomb("record", "record", "record.json", text('"v",', 10_000_000, '{"people": [')),
}  # fmt: skip


# those that a test sets off each time
QUICK = (
    "a task of nested lists",
    "a recipe of megabytes",
    "a recipe of one long text",
    "a recipe of nested lists",
    "a recipe of dotted keys",
    "a cluster of many tables",
    "a config of nested lists",
    "npz that claims",
    "npy that claims",
    "hdf5 that claims, in tiny chunks",
    "hdf5 that claims, in one chunk",
    "hdf5 with a filter of a plug-in",
    "weights that hold themselves many times",
    "weights with a header of one text",
    "weights that claim a header",
    "a png that claims",
    "a video that claims samples",
    "a video that claims times",
    "a video that claims chunks",
    "a video of samples of one size",
    "sound that claims",
    "a store that claims values",
    "a store that claims chunks",
    "a store that claims width",
    "a store of tiny chunks",
    "labels that claim",
    "labels of an unknown codec",
    "a video of many attributes",
)


def plant(file: Path, name: str) -> None:
    """Put a bomb in the place of a file."""
    BOMBS[name].write(file)


def main() -> int:
    """Set off every bomb; print what became of it, and how long that took. The exit code is 1 if one did harm."""
    from abaw.fuzz.campaign import write_seeds
    from abaw.fuzz.mutation import Case
    from abaw.fuzz.process import WorkerProcess
    from abaw.tests.support.trainings import Lab

    parser = argparse.ArgumentParser(prog="python -m abaw.fuzz.bombs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="only bombs whose name has one of these words")
    words = parser.parse_args().words
    with tempfile.TemporaryDirectory(prefix="abaw-bombs-") as folder:
        base, lab = Path(folder), Lab()
        store = lab.make_store(base / "store.zarr")
        run = lab.start(store, base / "runs")
        lab.train(run, store)
        write_seeds(base, run.folder, store)
        worker, n_bad = WorkerProcess(base), 0
        for name, bomb in BOMBS.items():
            if bomb.kind == "trial" or (words and not any(word in name for word in words)):
                continue
            start = time.monotonic()
            outcome = worker.run(Case(bomb.kind, bomb.route, bomb.file, (("plant", (name,)),)), limit_s=30.0, tries=1)
            n_bad += outcome not in ("result", "error")
            print(f"{time.monotonic() - start:6.1f} s  {name}: {outcome}", flush=True)
        worker.close()
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
