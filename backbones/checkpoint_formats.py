"""Files that are not checkpoints: what they are, judging by their content, and what to do about it."""

import json
import re
import shlex
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from abaw.core.errors import some_of

WANTED = "a .safetensors file or a state dict saved by torch"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")
SHOWN = 3
HEAD = 512  # bytes
ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")
TENSORFLOW = re.compile(r"\.(data-\d+-of-\d+|index|meta|pb)$")
OF_KERAS = "Pass the weights of the PyTorch version of this network"


def describe_kind(file: Path) -> str:
    """What a file is if it is certainly no checkpoint of torch or safetensors, and what to do; else "".

    The sentence's subject is the file.
    """
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    if zipfile.is_zipfile(file) and head.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            return _describe_zip(file, archive.namelist())
    if head[257:262] == b"ustar" or (file.suffix == ".tar" and tarfile.is_tarfile(file)):
        return _describe_tar(file)
    return _describe_head(file, head)


def _describe_head(file: Path, head: bytes) -> str:
    start = head.lstrip().lower()
    if not head:
        return "is empty. Download it again."
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return f"is an HDF5 file, as Keras writes weights, not a checkpoint of torch. {OF_KERAS}, {WANTED}."
    if head.startswith(b"\x93NUMPY"):
        return f"is a single NumPy array, not a checkpoint. Pass {WANTED}."
    if head.startswith(ARCHIVES):
        return "is a compressed archive. Unpack it and pass the checkpoint inside."
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself. Get the file with `git lfs pull` in its repository."
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, as some hosts send before a download. Download the file in a browser."
    if head.startswith(b"GGUF"):
        return f"is a GGUF file of llama.cpp, not of torch. Pass {WANTED}."
    if file.suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] == b"\x12" and b"torch" in head.lower()):
        return f"is a network of ONNX, not a checkpoint. Pass the weights that the network was exported from, {WANTED}."
    if head[4:8] == b"TFL3" or TENSORFLOW.search(file.name):
        return f"is of TensorFlow, not of torch. {OF_KERAS}, {WANTED}."
    if start.startswith(b"{"):
        what = "the index of a checkpoint in several files" if b"weight_map" in file.read_bytes() else "a text in JSON"
        return f"is {what}, not weights. " + (_merge(file.parent) if "index" in what else f"Pass {WANTED}.")
    return ""


def _describe_zip(file: Path, names: Sequence[str]) -> str:
    file_names = {name.split("/")[-1] for name in names}
    if "data.pkl" in file_names and ("constants.pkl" in file_names or any("/code/" in name for name in names)):
        opened = 'torch.jit.load({file}, map_location="cpu")'
        return f"is a TorchScript archive, a program with its weights. {_take_out(file, f'{opened}.state_dict()')}"
    if any("archive_format" in name or "exported_program" in name for name in file_names) or any(
        name.split("/")[1:3] == ["models", "model.json"] for name in names
    ):
        return f"is a program of torch.export. {_take_out(file, 'torch.export.load({file}).state_dict')}"
    if "data.pkl" in file_names:
        return ""
    if names and all(name.endswith(".npy") for name in names):
        arrays = "{{key: torch.from_numpy(value) for key, value in numpy.load({file}).items()}}"
        return f"is an archive of NumPy arrays (.npz). {_take_out(file, arrays, 'numpy, torch')}"
    if "model.weights.h5" in file_names or {"config.json", "metadata.json"} <= file_names:
        return f"is of Keras, not of torch. {OF_KERAS}, {WANTED}."
    return f"is a zip archive of {some_of(names, SHOWN) or 'nothing'}. Unpack it and pass the checkpoint inside."


def _describe_tar(file: Path) -> str:
    with tarfile.open(file) as archive:
        names = archive.getnames()
    if {"pickle", "storages", "tensors"} <= set(names):
        opened = "torch.load({file}, weights_only=False)"
        return (
            "was saved by torch before 2017, in a format that torch only opens if code may run, so it was not "
            f"opened. {_take_out(file, opened)}"
        )
    return f"is an archive of {some_of(names, SHOWN) or 'nothing'}. Unpack it and pass the checkpoint inside."


def _take_out(file: Path, expression: str, modules: str = "torch") -> str:
    """A sentence with a command that saves what an expression extracts from a file."""
    target = file.with_name(f"{file.stem}-weights.pth")
    source, saved = (json.dumps(str(path), ensure_ascii=False) for path in (file, target))
    code = f"import {modules}; torch.save({expression.format(file=source)}, {saved})"
    return f"If you trust it, extract the weights with `python -c {shlex.quote(code)}`, and pass {target}."


def describe_folder(folder: Path) -> str:
    """Why a folder is not a weights file, and what to pass; the sentence's subject is the folder."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") or path.name == ".metadata")
    contents = set(names)
    if ".metadata" in contents and any(name.endswith(".distcp") for name in names):
        target = folder.with_name(f"{folder.name}-weights.pth")
        command = shlex.join(["python", "-m", "torch.distributed.checkpoint.format_utils", "dcp_to_torch", str(folder),
                              str(target)])  # fmt: skip
        return f"is a folder with a checkpoint of several processes. Make one file of it with `{command}`, and pass {target}."
    if "zero_to_fp32.py" in contents:
        return "is a folder of DeepSpeed. Make one file of it with its zero_to_fp32.py, and pass that."
    if "saved_model.pb" in contents or any(TENSORFLOW.search(name) for name in names):
        return f"is a folder of TensorFlow, not of torch. {OF_KERAS}, {WANTED}."
    if any(name.endswith(".index.json") for name in names):
        return f"is a folder with a checkpoint in several files. {_merge(folder)}"
    if {"data.pkl", "data"} <= contents or any((folder / name / "data.pkl").is_file() for name in names):
        return "is an unpacked file of torch. Pass the file as it was before."
    files = sorted(
        (name for name in names if name.endswith(SUFFIXES)), key=lambda name: name not in ("model.safetensors",)
    )
    if files:
        return f"is a folder, not a file of weights. Pass {folder / files[0]}."
    return f"is a folder that holds {some_of(names, SHOWN) or 'nothing'}. Pass one file of weights, {WANTED}."


def _merge(folder: Path) -> str:
    target = folder.with_name(f"{folder.resolve().name}-weights.pth")
    if any(folder.glob("*.safetensors")):
        parts, read = "*.safetensors", "safetensors.torch.load_file(part)"
    else:
        parts, read = "*.bin", 'torch.load(part, map_location="cpu", weights_only=True)'
    pattern, saved = (json.dumps(str(path), ensure_ascii=False) for path in (folder / parts, target))
    code = (
        f"import glob, safetensors.torch, torch; torch.save({{key: value for part in sorted(glob.glob({pattern})) "
        f"for key, value in {read}.items()}}, {saved})"
    )
    return f"Make one file of them with `python -c {shlex.quote(code)}`, and pass {target}."


def describe_absence(file: Path) -> str:
    """A sentence for a weights file that does not exist."""
    if file.is_dir():
        return f"{file} {describe_folder(file)}"
    if file.with_name(f"{file.name}.index").is_file():
        return f"{file} is a checkpoint of TensorFlow, not of torch. {OF_KERAS}, {WANTED}."
    return f"No weights file {file}. Check the path after the colon of --backbone."
