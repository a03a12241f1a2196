"""Every command that writes, on inputs that take it a fraction of a second; made by rule, the same each time."""

import shutil
import wave
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from abaw.core.progress import Silent
from abaw.core.tasks import TASKS
from abaw.fuzz.trials import ForkServer
from abaw.store import FeatureStore
from abaw.store.packing import pack_store
from abaw.tests.support.images import draw_noise, write_crops
from abaw.tests.support.paths import DATA
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.videos import NumberedVideos

N_FRAMES, WIDTH = 24, 3
TINY = ("head.dim=4", "head.layers=1", "head.heads=1", "head.feedforward=4", "window=8", "batch_size=4")
TRANSFORMER = ("--epochs", "2", *(word for setting in TINY for word in ("--set", setting)))
RUN = ("train", "--task", "va", "--feature", "f", "--run")
RIDGE = ("--head", "ridge", "--set", "window=8")


@dataclass(frozen=True)
class WritingCommand:
    """A command that writes, and what to type after it was stopped.

    Attributes:
        words: the arguments of `abaw`.
        inputs: folders and files of the inputs that it needs, see `make_inputs`.
        continuation: what is typed to continue; where that is refused, as nothing was begun, the same command is typed
            again. Empty where the same command always continues.
    """

    words: tuple[str, ...]
    inputs: tuple[str, ...]
    continuation: tuple[str, ...] = ()


def _training(*words: str) -> WritingCommand:
    return WritingCommand((*RUN, "t", *words), ("store.zarr",), ("train", "--resume", "--run", "t"))


SEEDS = (*RUN, "t", *RIDGE, "--seeds", "2")
DETECTOR = "abaw.fuzz.whole_faces:WholeFaces"
PREPARE = ("prepare", "videos", "--data", "new", "--detector", DETECTOR, "--device", "cpu")
SYNTH = ("synth", "--faces", "cutouts", "--out", "clips", "--clips", "3", "--n-frames", "2", "--side-px", "64")
SYNTH_RULES = ("--base-px", "16", "--min-scale", "1", "--max-scale", "1", "--margin-px", "2", "--min-faces", "1")
EXTRACT = ("extract", "--fps", "25", "--device", "cpu", "--data", "crops", "--store", "new.zarr", "--backbone")
EXPORT = ("store", "export", "--feature", "f", "--out")
EVALUATED = ("store.zarr", "runs/a", "runs/b", "data")

FINETUNE = ("finetune", "--task", "va", "--backbone", "tiny=timm/test_vit@32-mean", "--untrained", "--device", "cpu")
DEMO = ("demo", "--size", "tiny", "--out", "demo", "--device", "cpu", "--dataset")

COMMANDS: dict[str, WritingCommand] = {
    "prepare": WritingCommand(PREPARE, ("videos",)),
    "synth-frames": WritingCommand((*SYNTH, *SYNTH_RULES, "--to", "frames"), ("cutouts",)),
    "synth-pt": WritingCommand((*SYNTH, *SYNTH_RULES, "--to", "pt"), ("cutouts",)),
    "synth-mp4": WritingCommand((*SYNTH, *SYNTH_RULES), ("cutouts",)),
    "extract": WritingCommand((*EXTRACT, "hog"), ("crops",)),
    "extract-more": WritingCommand(
        ("extract", "--fps", "25", "--device", "cpu", "--store", "store.zarr", "--backbone", "hog"),
        ("data", "store.zarr"),
    ),
    # a precision that is chosen by its speed could be another one the next time
    "extract-network": WritingCommand((*EXTRACT, "fer", "--view", "hflip", "--precision", "fp32"), ("crops",)),
    "extract-sound": WritingCommand(
        ("extract", "--fps", "25", "--data", "sounds", "--store", "new.zarr", "--backbone", "egemaps"), ("sounds",)
    ),
    "extract-videos": WritingCommand(
        (
            *("extract", "--from", "videos", "--detector", DETECTOR, "--device", "cpu", "--data", "videos"),
            *("--store", "new.zarr", "--backbone", "hog"),
        ),
        ("videos",),
    ),
    "extract-kept": WritingCommand(
        (
            *("extract", "--from", "videos", "--detector", DETECTOR, "--device", "cpu", "--data", "videos"),
            *("--store", "new.zarr", "--backbone", "hog", "--keep-crops", "kept"),
        ),
        ("videos",),
    ),
    "extract-text": WritingCommand((*EXTRACT, "speech-timing", "--transcripts", "spoken"), ("crops", "spoken")),
    "import": WritingCommand(
        ("store", "import", "arrays", "--feature", "mine", "--fps", "25"), ("arrays", "store.zarr")
    ),
    "import-new": WritingCommand(
        ("store", "import", "arrays", "--feature", "mine", "--fps", "25", "--store", "new.zarr"), ("arrays", "data")
    ),
    "import-faces": WritingCommand(
        ("store", "import", "tables", "--feature", "aus", "--columns", "au", "--fps", "25"), ("tables", "store.zarr")
    ),
    "export-h5": WritingCommand((*EXPORT, "f.h5"), ("store.zarr",)),
    "export-npy": WritingCommand((*EXPORT, "f", "--format", "npy"), ("store.zarr",)),
    "export-webdataset": WritingCommand((*EXPORT, "f", "--format", "webdataset"), ("store.zarr",)),
    "export-parquet": WritingCommand((*EXPORT, "f.parquet", "--format", "parquet"), ("store.zarr",)),
    "export-onnx": WritingCommand(("export", "h", "--out", "onnx"), ("runs/h", "data")),
    "repair": WritingCommand(("store", "repair", "damaged.zarr"), ("damaged.zarr",)),
    "pack": WritingCommand(("store", "pack", "store.zarr"), ("store.zarr",)),
    "pack-again": WritingCommand(("store", "pack", "packed.zarr"), ("packed.zarr",)),
    "repair-packed": WritingCommand(("store", "repair", "damaged-pack.zarr"), ("damaged-pack.zarr",)),
    "verify": WritingCommand(("store", "verify", "store.zarr"), ("store.zarr",)),
    "train": _training(*TRANSFORMER, "--set", "save_every=1"),
    "train-unnamed": WritingCommand((*RUN[:-1], *TRANSFORMER), ("store.zarr",), ("train", "--resume")),
    "train-ridge": _training(*RIDGE),
    "train-logistic": WritingCommand(
        ("train", "--task", "expr", "--feature", "f", "--run", "t", "--head", "logistic", "--set", "window=8"),
        ("store.zarr",),
        ("train", "--resume", "--run", "t"),
    ),
    "train-seeds": WritingCommand(SEEDS, ("store.zarr",), (*SEEDS, "--resume")),
    "train-fold": _training(*RIDGE, "--fold", "1/2"),
    "train-init": WritingCommand(
        (*RUN, "t", *TRANSFORMER, "--init", "c"), ("store.zarr", "runs/c"), ("train", "--resume", "--run", "t")
    ),
    "resume": WritingCommand(("train", "--resume", "--run", "c", "--epochs", "2"), ("store.zarr", "runs/c")),
    "resume-from": WritingCommand(
        ("train", "--resume-from", "1", "--run", "d"), ("store.zarr", "runs/d"), ("train", "--resume", "--run", "d")
    ),
    "finetune": WritingCommand(
        (*FINETUNE, "--run", "t", "--epochs", "2", "--set", "batch_size=4", "--set", "save_every=1"),
        ("data",),
        ("finetune", "--resume", "--run", "t"),
    ),
    "eval": WritingCommand(("eval", "a", "--csv", "rows.csv"), EVALUATED),
    "eval-predictions": WritingCommand(
        ("eval", "--predictions", "predicted", "--keep", "t"), ("store.zarr", "predicted")
    ),
    "tune": WritingCommand(("tune", "a", "--smooth", "box:3", "--fit-on", "val"), EVALUATED),
    "tune-crossed": WritingCommand(("tune", "a"), EVALUATED),
    "ensemble": WritingCommand(("ensemble", "a", "b", "--run", "e"), EVALUATED),
    "ensemble-unnamed": WritingCommand(("ensemble", "a", "b"), EVALUATED),
    "submit": WritingCommand(("submit", "a", "--sample", "sample.txt"), (*EVALUATED, "sample.txt")),
    "submit-videos": WritingCommand(("submit", "a", "--sample", "videos.txt"), (*EVALUATED, "videos.txt")),
    "report": WritingCommand(("report", "a", "b"), EVALUATED),
    "report-plots": WritingCommand(("report", "a", "--plots", "plots"), EVALUATED),
    "predict-image": WritingCommand(("predict", "faces", "--device", "cpu"), ("faces",)),
    "predict-video": WritingCommand(("predict", "videos/one.mp4", "--device", "cpu"), ("videos",)),
    "run": WritingCommand(("run", "recipe.toml", "--device", "cpu"), ("recipe.toml", "data")),
    "demo": WritingCommand((*DEMO, "aff-wild2"), ()),
    "demo-lsd": WritingCommand((*DEMO, "lsd"), ()),
    "demo-stills": WritingCommand((*DEMO, "stills"), ()),
}
if find_spec("onnxscript") is None:  # which not every machine has
    del COMMANDS["export-onnx"]
COSTLY = (  # few kills in a sample
    *("extract-network", "extract-sound", "extract-more", "eval", "ensemble", "ensemble-unnamed", "run", "report"),
    *("finetune", "train", "train-unnamed", "train-seeds", "train-init", "resume", "resume-from", "tune-crossed"),
    *("predict-image", "predict-video"),
)
READ_ONLY = (  # inputs that no command changes
    *("data", "crops", "sounds", "arrays", "videos", "faces", "cutouts", "spoken", "tables", "predicted"),
)
SLOW = (
    "report-plots",
    "demo",
    "demo-lsd",
    "demo-stills",
    "export-onnx",
    "extract-kept",
    "extract-text",
)  # take seconds


def make_inputs(folder: Path, server: ForkServer) -> None:
    """Write the inputs of all commands into an empty folder."""
    _write_media(folder)
    _write_store(folder / "store.zarr")
    _write_labels(folder / "data")
    for video in "abcd":
        shutil.copytree(folder / "crops" / "v0", folder / "data" / "cropped_aligned" / video)
    arrays = folder / "arrays"
    arrays.mkdir()
    rng = np.random.default_rng(1)
    for video in "abcd":
        values = rng.normal(size=(N_FRAMES, 2)).astype(np.float32)
        np.savez(arrays / f"{video}.npz", values=values, present=np.ones(N_FRAMES, dtype=bool))
    shutil.copytree(folder / "store.zarr", folder / "damaged.zarr")
    for chunk in ("features/f/b/values/c/0/0", "labels/va/c/c/0/0"):
        path = folder / "damaged.zarr" / chunk
        path.write_bytes(path.read_bytes()[:-3])
    _write_packed(folder)
    _write_texts(folder)
    (folder / "sample.txt").write_text(
        "\n".join([TASKS["va"].submission.images, *(f"d/{n:05}.jpg," for n in (1, 2, 9))])
    )
    (folder / "videos.txt").write_text("c\nd\n")
    (folder / "recipe.toml").write_text(
        'summary = "s"\nextract = ["abaw extract --backbone hog"]\ntask = "va"\nfeatures = ["hog"]\nwindow = 4\n[head]\nname = "ridge"\n'
    )
    trained = [
        (*RUN, "a", *RIDGE),
        (*RUN, "b", *TRANSFORMER, "--epochs", "1"),
        (*RUN, "c", *TRANSFORMER, "--epochs", "1"),
        (*RUN, "d", *TRANSFORMER, "--set", "save_every=1"),
        ("eval", "a"),
        ("eval", "b"),
    ]
    if "export-onnx" in COMMANDS:
        trained.append((*FINETUNE, "--run", "h", "--epochs", "1", "--set", "batch_size=4"))
    for words in trained:
        outcome = server.run(words, folder)
        assert outcome.exit_code == 0, outcome.errors
    for run in "ab":
        (folder / "runs" / run / "traces-val.png").unlink()


def _write_media(folder: Path) -> None:
    for number, n_frames in enumerate((4, 3)):
        write_crops(folder / "crops" / "cropped_aligned" / f"v{number}", n_frames, number)
    shutil.copytree(folder / "crops" / "cropped_aligned" / "v0", folder / "crops" / "v0")
    for label in ("Positive", "Neutral", "Negative"):
        (folder / "cutouts" / label).mkdir(parents=True)
        Image.fromarray(draw_noise([ord(label[1])], 24)).save(folder / "cutouts" / label / "1.png")
    numbered = NumberedVideos()
    sound = 0.3 * np.sin(np.arange(4000) * 0.2).astype(np.float32)
    for name, n_frames in (("one", 4), ("two", 3)):
        numbered.write(folder / "videos" / f"{name}.mp4", n_frames, sound=sound)
    shutil.copytree(folder / "crops", folder / "sounds")
    (folder / "sounds" / "audio").mkdir()
    for name in ("v0", "v1"):
        with wave.open(str(folder / "sounds" / "audio" / f"{name}.wav"), "wb") as stream:
            stream.setparams((1, 2, 16000, 0, "NONE", ""))
            stream.writeframes((sound * 32767).astype("<i2").tobytes())
    with Image.open(DATA / "pictures" / "multi_face.jpg") as picture:
        (folder / "faces").mkdir()
        for name, box in (("left", (490, 250, 690, 450)), ("right", (640, 250, 840, 450))):
            picture.crop(box).resize((96, 96)).save(folder / "faces" / f"{name}.png")


def _write_store(path: Path) -> None:
    """Two training and two validation videos with a feature of three values, from which the labels follow."""
    rng = np.random.default_rng(0)
    store = new_store(path, {"f": (WIDTH,)}, fingerprint="a" * 64)
    for video in "abcd":
        values = rng.normal(size=(N_FRAMES, WIDTH)).astype(np.float32)
        put_feature(store, "f", video, values, fps=25.0)
        split = "train" if video in "ab" else "val"
        store.write_labels("va", video, split, np.clip(values[:, :2] / 3, -1, 1))
        store.write_labels("expr", video, split, np.arange(N_FRAMES, dtype=np.int8)[:, None] % 8)


def _write_packed(folder: Path) -> None:
    """A packed store with a video that was written again since and one that is new; and one whose pack is damaged."""
    shutil.copytree(folder / "store.zarr", folder / "packed.zarr")
    store = FeatureStore.create(folder / "packed.zarr")
    pack_store(store, Silent())
    shutil.copytree(folder / "packed.zarr", folder / "damaged-pack.zarr")
    for video, value in (("b", 1), ("e", 2)):
        put_feature(store, "f", video, np.full((N_FRAMES, WIDTH), value), fps=25.0)
    store.drop("features/f/c")
    shard = folder / "damaged-pack.zarr" / "features/f/.packs" / "float16-3/c/0/0"
    content = bytearray(shard.read_bytes())
    content[0] ^= 1
    shard.write_bytes(bytes(content))


def _write_labels(data: Path) -> None:
    rng = np.random.default_rng(2)
    for video in "abcd":
        split = "Train_Set" if video in "ab" else "Validation_Set"
        file = data / "VA_Estimation_Challenge" / split / f"{video}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{v:.3f},{a:.3f}" for v, a in rng.uniform(-1, 1, (4, 2))]
        file.write_text("\n".join([TASKS["va"].submission.videos, *rows]) + "\n")


def _write_texts(folder: Path) -> None:
    """Transcripts of the crops, tables of OpenFace, and predictions of the validation videos."""
    rng = np.random.default_rng(3)
    for name in ("spoken", "tables", "predicted"):
        (folder / name).mkdir()
    for video in ("v0", "v1"):
        (folder / "spoken" / f"{video}.srt").write_text("1\n00:00:00,010 --> 00:00:00,100\nwell, yes\n")
    for video in "abcd":
        rows = [f"{frame},0,{frame / 25},.9,1,{rng.uniform(0, 5):.2f},1" for frame in range(1, N_FRAMES + 1)]
        header = "frame,face_id,timestamp,confidence,success,AU01_r,AU01_c"
        (folder / "tables" / f"{video}.csv").write_text("\n".join([header, *rows]))
    for video in "cd":
        rows = [f"{v:.3f},{a:.3f}" for v, a in rng.uniform(-1, 1, (N_FRAMES, 2))]
        (folder / "predicted" / f"{video}.txt").write_text("\n".join([TASKS["va"].submission.videos, *rows]) + "\n")
