"""The valid files that are changed: a small folder for each kind of input."""

import io
import json
import os
import pickle
import shutil
import struct
import wave
import zipfile
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from abaw.core.progress import Silent
from abaw.core.tasks import TASKS
from abaw.datasets.mtl import HEADER as MTL_HEADER
from abaw.evaluate.ensemble import digest_of, open_ensemble
from abaw.evaluate.postprocessing.tuning import load_tuning
from abaw.evaluate.predictions import load_predictions, read_made_from, save_predictions
from abaw.store.packing import pack_store
from abaw.tests.support.paths import CHECKOUT
from abaw.tests.support.stores import new_store, put_feature

FACE_TABLES = CHECKOUT / "tests" / "data" / "golden" / "face_tables"
CANARY = "canary"  # what code that is run by mistake leaves in the working folder


def picture(size: int = 24) -> Image.Image:
    """A small image with something in it."""
    values = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(values)


def make_crops(root: Path) -> None:
    """Crops of every kind that people have, and of some that they should not."""
    folder = root / "data" / "cropped_aligned" / "v"
    folder.mkdir(parents=True)
    image = picture()
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "00001.jpg": (image, "JPEG", {"quality": 90}),
        "00002.jpg": (image, "JPEG", {"progressive": True}),
        "00003.jpg": (image.convert("L"), "JPEG", {}),
        "00004.jpg": (image.convert("CMYK"), "JPEG", {}),
        "00005.png": (image.convert("RGBA"), "PNG", {}),
        "00006.png": (image.convert("P"), "PNG", {}),
        "00007.png": (image.convert("I;16"), "PNG", {}),
        "00008.jpg": (image, "WEBP", {}),
        "00009.jpg": (image, "GIF", {}),
        "00010.jpg": (image, "TIFF", {}),
        "00011.jpg": (image, "EPS", {}),
        "00012.jpg": (image, "BMP", {}),
        "00013.jpg": (image, "PPM", {}),
    }
    for name, (made, form, options) in kinds.items():
        made.save(folder / name, form, **options)


def make_labels(root: Path) -> None:
    """Two crops of a video, its labels of every task, and labels of clips."""
    data = root / "data"
    for number in (1, 2):
        (data / "cropped_aligned" / "v").mkdir(parents=True, exist_ok=True)
        picture().save(data / "cropped_aligned" / "v" / f"{number:05}.jpg")
    rows = {"va": ["0.5,-0.25"] * 2, "expr": ["3", "-1"], "au": ["0,1,0,0,1,0,0,0,1,0,0,-1"] * 2}
    folders = {"va": "VA_Estimation_Challenge", "expr": "EXPR_Recognition_Challenge", "au": "AU_Detection_Challenge"}
    for task, folder in folders.items():
        file = data / folder / "Train_Set" / "v.txt"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join([TASKS[task].submission.videos, *rows[task]]) + "\n")
    mtl = [f"v/{number:05}.jpg,0.5,-0.25,3,{','.join('01' * 6)}" for number in (1, 2)]
    (data / "training_set_annotations.txt").write_text("\n".join([MTL_HEADER, *mtl]) + "\n")
    (data / "Train_labels.txt").write_text("Vid_name Label\n1_1 3\n1_2.mp4 1\n")
    (data / "synthetic").mkdir()
    (data / "synthetic" / "Positive_labels.txt").write_text("clip_1\nclip_2 0\n")
    images = data / "training_set_synthetic_images" / "ANGER"
    images.mkdir(parents=True)
    picture().save(images / "0.jpg")


CLIPS_TASK = """name = "mine"
level = "clip"
kind = "multi-label"
outputs = ["smile", "frown"]
invalid = -1
measure = "macro-f1"
also = ["ap"]
loss = "bce"
window = 20

[labels]
table = "labels.csv"
clip = "clip"
split = "split"
person = "who"
target = ["smile", "frown"]

[submission]
rows = "clips"
header = "clip,smile,frown"
columns = [["clip", "label"]]
order = "name"
"""


def make_tasks(root: Path) -> None:
    """Task files, tables that they name, and the label files of BAH, DVD, EMI, MER and EmotiW's engagement."""
    (root / "mine.toml").write_text(CLIPS_TASK)
    (root / "stills.toml").write_text(
        'name = "mine"\nlevel = "image"\nkind = "classes"\noutputs = ["no", "yes"]\nmeasure = "accuracy"\n'
        '[labels]\ntable = "labels.csv"\nfirst = 1\ntarget = "label"\n[submission]\nrows = "images"\nheader = "a,b"\n'
    )
    six = "Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
    files = {
        "mine/labels.csv": "clip,split,who,smile,frown\na.mp4,train,x,0,1\nb,val,y,1,\n",
        "mine/people.csv": "video,person\na,anna\nb.mp4,ben\n",
        "stills/labels.csv": "clip,split,label\nset/a.png,train,2\nset/b.png,val,no\n",
        "bah/split/train.txt": "Videos/8/Visite_1/8_Question_1_x_Video.mp4,1,Well, no\n",
        "bah/split/val.txt": "Videos/9/Visite_1/9_Question_1_x_Video.mp4,0,Yes\n",
        "bah/split-frames/train.txt": "Videos/8/Visite_1/8_Question_1_x_Video.mp4/frame-0.jpg,1\n",
        "dvd/labels/Training/0001.csv": "Frame_Number,Label\n1,0\n2,1\n",
        "emi/train_split.csv": f"Filename,{six}\na,0.1,0.2,0.3,0.4,0.5,0.6\n",
        "emi/valid_split.csv": f"Filename,{six}\nb,0,1,0,1,0,1\n",
        "mer/track1_train.csv": "name,discrete\na,worried\nb,happy\n",
        "engagement/Train/a.txt": "0.33\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    folders = ("mine/crops/a", "mine/crops/b", "bah/Videos/8_Question_1_x_Video", "dvd/frames/Training/0001", "emi/x/a")
    for folder in (*folders, "emi/x/b", "mer/x/a", "mer/x/b"):
        (root / folder).mkdir(parents=True)
        picture().save(root / folder / "00001.jpg")
    (root / "stills" / "set").mkdir()
    for name in ("a.png", "b.png"):
        picture().save(root / "stills" / "set" / name)
    (root / "engagement" / "Train" / "a.mp4").write_bytes(b"")  # its label is read first


def make_recipe(root: Path) -> None:
    """Recipes and cluster files, and a store that has features and no labels."""
    new_store(root / "store.zarr", {"f": (4,), "g": (3,)})
    (root / "recipe.toml").write_text(
        'summary = "A recipe."\nextract = ["abaw extract --backbone hog"]\ntask = "va"\nfeatures = ["f", "g"]\n'
        'window = 30\nbatch_size = 8\nlr = 0.01\nspeed = [0.5, 1.5]\nviews = []\nmissing = "mask"\n'
        '[head]\nname = "transformer"\ndim = 16\nlayers = 1\nheads = 2\nfeedforward = 32\n[loss]\nname = "ccc"\n'
    )
    (root / "tcn.toml").write_text(
        'task = "expr"\nfeatures = ["f"]\nepochs = 3\nbalance = "class"\nfold = "1/3"\nseed = 7\n'
        '[head]\nname = "tcn"\nkernel = 3\nlayers = 2\ndim = 8\n[loss]\nname = "focal"\ngamma = 1.0\n'
    )
    (root / "local.toml").write_text('[cluster]\nkind = "local"\nworkers = 2\ngpus = [0]\nstall_s = 60.0\n')
    (root / "slurm.toml").write_text(
        '[cluster]\nkind = "slurm"\njobs = 4\nqueue = "gpu"\nmemory = "8GB"\nprologue = ["module load x"]\n'
    )


def make_samples(root: Path, store: Path) -> None:
    """Official samples of every challenge and answers to them, for the videos of a store."""
    answers = {"va": "0.5,-0.25", "expr": "3", "au": ",".join("01" * 6), "mtl": f"0.5,-0.25,3,{','.join('01' * 6)}"}
    for task, answer in answers.items():
        images = [f"v4/{number:05}.jpg" for number in range(1, 5)]
        rows = [f"{image}," for image in images], [f"{image},{answer}" for image in images]
        for name, lines in zip(("sample", "answer"), rows, strict=True):
            (root / f"{task}-{name}.txt").write_text("\n".join([TASKS[task].submission.images, *lines]) + "\n")
    (root / "lsd-sample.txt").write_text(f"{TASKS['lsd'].submission.images}\n0.jpg,\n1.jpg,\n")
    (root / "lsd-answer.txt").write_text(f"{TASKS['lsd'].submission.images}\n0.jpg,3\n1.jpg,0\n")
    (root / "videos-sample.txt").write_text("v4\nv5\n")
    (root / "videos-answer.txt").mkdir()
    for video in ("v4", "v5"):
        (root / "videos-answer.txt" / f"{video}.txt").write_text(
            "\n".join([TASKS["va"].submission.videos, "0.5,0.25"]) + "\n"
        )
    (root / "store.zarr").symlink_to(store)


class Payload:
    """Unpickling this calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


def payloads() -> dict[str, bytes]:
    """Pickles that leave a canary when they are opened carelessly."""
    code = f"open({CANARY!r}, 'w').close()"
    calls = {
        "system": (os.system, f"touch {CANARY}"),
        "exec": (exec, code),
        "eval": (eval, code),
        "open": (open, CANARY, "w"),
        "mkdir": (os.mkdir, CANARY),
    }
    made = {name: pickle.dumps({"state_dict": Payload(*call)}, 2) for name, call in calls.items()}
    # the call stands where a key, a state and an item are put into something that is allowed
    made["global"] = b"cos\nsystem\n(S'touch " + CANARY.encode() + b"'\ntR."
    made["build"] = b"\x80\x02cargparse\nNamespace\n)\x81}(X\x01\x00\x00\x00acos\nsystem\nub."
    made["torch"] = b"\x80\x02ctorch.hub\nload\n(X\x01\x00\x00\x00xX\x01\x00\x00\x00ytR."
    made["numpy"] = (
        b"\x80\x02cnumpy.testing._private.utils\nrunstring\n(X" + struct.pack("<I", len(code)) + code.encode()
    )
    made["numpy"] += b"}tR."
    return made


def as_torch(pickled: bytes, name: str = "archive") -> bytes:
    """A pickle in the archive that torch.save writes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for member, content in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"{name}/{member}", content)
    return made.getvalue()


def make_weights(root: Path) -> None:
    """Checkpoints in every format, and files that would run code."""
    state = {
        "pos_embed": torch.randn(1, 5, 192),
        "cls_token": torch.zeros(1, 1, 192),
        "blocks.0.norm1.weight": torch.ones(192),
        "head.weight": torch.randn(4, 192),
        "counter": torch.tensor(3),
    }
    save_file(state, root / "w.safetensors", {"made": "here"})
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, root / "w.pt")
    torch.save({"model": state}, root / "w.pth", _use_new_zipfile_serialization=False)
    torch.save(state, root / "w.bin")
    (root / "w.pkl").write_bytes(pickle.dumps({"a": 1}))
    odd = {
        "sparse": torch.eye(3).to_sparse(),
        "complex": torch.ones(2, dtype=torch.complex64),
        "meta": torch.empty(3, device="meta"),
        "expanded": torch.zeros(1).expand(10**12),
        "nothing": torch.zeros(0),
        "bool": torch.ones(2, dtype=torch.bool),
    }
    for name, tensor in odd.items():
        torch.save({"pos_embed": tensor, "fc.weight": tensor}, root / f"odd-{name}.pt")
    for name, pickled in payloads().items():
        (root / f"evil-{name}.pt").write_bytes(as_torch(pickled))
        (root / f"evil-{name}.pkl").write_bytes(pickled)


def make_run(root: Path, run: Path, store: Path) -> None:
    """A trained run with its predictions, an ensemble of two, and the store."""
    for name in ("r", "s"):
        folder = root / "runs" / name
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("tensorboard", "*.png"))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "created": f"2026-01-0{1 + (name == 's')}T00:00:00"}))
    ensemble = root / "runs" / "e"
    ensemble.mkdir()
    members = {"abaw": "1", "created": "2026-01-01", "task": "va", "members": ["r", "s"], "weights": [0.5, 0.5]}
    (ensemble / "ensemble.json").write_text(json.dumps({**members, "raw": False}))
    made_from = digest_of([(run.digest(), load_tuning(run)) for run in open_ensemble(ensemble).runs()], (0.5, 0.5))
    found = load_predictions(run / "predictions-val.h5")
    save_predictions(ensemble / "predictions-val.h5", found, TASKS["va"], made_from)
    (root / "store.zarr").symlink_to(store)
    (root / "sample.txt").write_text(f"{TASKS['va'].submission.images}\nv4/00001.jpg,\nv4/00002.jpg,\n")


def shorten_predictions(file: Path, n_rows: int) -> None:
    """Keep the first rows, so that intervals take less time."""
    made_from, found = read_made_from(file), load_predictions(file)
    short = {
        video: type(one)(one.outputs[:n_rows], one.labels[:n_rows], one.present[:n_rows], one.fps)
        for video, one in found.items()
    }
    save_predictions(file, short, TASKS["va"], made_from)


def make_small_store(root: Path) -> None:
    """A store with two features, of which one is of sound, labels and a note; some videos are packed."""
    store = new_store(root / "store.zarr", {"f": (3,), "g": (2, 2)}, audio=("g",))
    for video in ("c", "d", "a", "b"):
        if video == "a":
            pack_store(store, Silent())
        put_feature(store, "f", video, np.ones((5, 3)), [True, True, False, True, True])
        put_feature(store, "g", video, np.ones((5, 2, 2)))
        store.write_labels("va", video, "train" if video in "ac" else "val", np.full((5, 2), 0.5, np.float32))
    store.notes.write("claim-1", json.dumps({"features": ["f"], "part": "1/2", "host": "x", "beat": 1.0}))
    source = root / "source"
    source.mkdir()
    for video in ("a", "b"):
        np.save(source / f"{video}.npy", np.full((5, 3), 2, np.float16))


def make_imports(root: Path) -> None:
    """A source of features in each layout."""
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    for number in (1, 2, 3):
        (root / "frames" / "a").mkdir(parents=True, exist_ok=True)
        np.save(root / "frames" / "a" / f"{number:05}.npy", values[number][None])
    for name in ("npz", "h5", "one", "table", "arrays", "tensors", "clips"):
        (root / name).mkdir()
    np.savez(root / "npz" / "a.npz", values=values, present=np.array([True, True, False, True]))
    np.savez_compressed(root / "npz" / "b.npz", values=values.astype(np.float16), frames=np.array([1, 2, 4, 9]))
    with h5py.File(root / "h5" / "a.h5", "w") as file:
        file["values"], file["frames"] = values, np.array([1, 2, 3, 5])
        file.attrs["fps"] = 25.0
    with h5py.File(root / "one" / "all.h5", "w") as file:
        for video in ("a", "b"):
            file.create_group(video).create_dataset("values", data=values, chunks=(2, 3), compression="gzip")
            file[video]["present"] = np.array([True, False, True, True])
            file[video].attrs["fps"] = 25.0
        spec = json.dumps({"shape": [3], "dtype": "float16", "weights": "none"})
        file.attrs.update({"feature": "f", "spec": spec, "weights_sha256": "", "fingerprint": "a" * 64})
    np.save(root / "table" / "features.npy", values)
    for program in ("openface2", "openface3", "pyfeat1", "libreface"):
        shutil.copytree(FACE_TABLES / program, root / program)
    (root / "table" / "features.csv").write_text("video,frame\na,1\na,2\nb,1\nb,7\n")
    for video in ("a", "b"):
        np.save(root / "arrays" / f"{video}.npy", values)
        np.save(root / "arrays" / f"{video}.present.npy", np.array([True, True, False, True]))
        torch.save(torch.from_numpy(values), root / "tensors" / f"{video}.pt")
    content = {"feature": "f", "spec": spec, "weights_sha256": "", "fingerprint": "a" * 64, "fps": {"a": 25.0}}
    (root / "arrays" / "feature.json").write_text(json.dumps(content))
    torch.save(torch.ones(4, 3), root / "clips" / "a.mp4.img.4.pt", _use_new_zipfile_serialization=False)
    (root / "tensors" / "c.pt").write_bytes(as_torch(payloads()["exec"]))


def write_video(file: Path, sound: np.ndarray | None) -> None:
    """Eight small pictures at 10 a second, and (samples,) float32 sound at 16 kHz."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        voice = container.add_stream("aac", rate=16000, layout="mono") if sound is not None else None
        for number in range(8):
            values = np.full((32, 64, 3), 30 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode(None))
        if voice is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
            frame.sample_rate = 16000
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))


def make_media(root: Path) -> None:
    """Videos in several containers, and sound."""
    sound = np.sin(np.arange(8000) / 10).astype(np.float32)
    for name in ("a.mp4", "b.mkv", "c.avi"):
        write_video(root / name, sound if name != "c.avi" else None)
    with wave.open(str(root / "d.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((sound * 20000).astype("<i2").tobytes())
    (root / "e.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    (root / "f.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:5,\na.mp4\n#EXT-X-ENDLIST\n")


def make_transcripts(root: Path) -> None:
    """Transcripts of one video and of all, with a tag that would run code, and anchors that would grow."""
    one, all_videos = root / "of-a-video", root / "of-all"
    one.mkdir()
    all_videos.mkdir()
    chunks = "chunks:\n- text: ' yes'\n  timestamp: !!python/tuple\n  - 0.5\n  - 1.0\n"
    (one / "a.yml").write_text(chunks + f"run: !!python/object/apply:os.system ['touch {CANARY}']\n")
    (one / "b.yml").write_text("a: &a {text: x}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\nchunks: [*a]\n")
    words = [{"word": " yes", "start": 0.5, "end": 0.7}, {"word": " no"}]
    segments = [{"start": 0.5, "end": 1.0, "text": " yes, no", "words": words}]
    (one / "c.json").write_text(json.dumps({"segments": segments, "language": "en"}))
    (one / "d.json").write_text(json.dumps({"transcription": [{"offsets": {"from": 0, "to": 500}, "text": " yes"}]}))
    (one / "e.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\n<i>yes</i>\n")
    (one / "f.vtt").write_text("WEBVTT\n\nNOTE x\n\n00:00.500 --> 00:01.000 align:start\n<v A>yes &amp; no\n")
    (all_videos / "g.csv").write_text("clip,text,start,end\nv.mp4,yes,0.5,1.0\nw,no,,\n")
    inner = "".join(f"    {line}\n" for line in chunks.splitlines())
    (all_videos / "h.yaml").write_text(f"x/v.mp4:\n  frame_annotation:\n  - - x\n    - 0\n  transcript:\n{inner}")


def make_tensors(root: Path) -> None:
    """Clips as tensors, and a tensor of another shape."""
    torch.save(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), root / "a.mp4.img.3.pt")
    torch.save(torch.rand(3, 8, 8, 3), root / "b.mp4.img.3.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.zeros(2, 1, 128, 128, dtype=torch.float16), root / "c.mp4.spec.2.pt")
    torch.save(torch.zeros(1).expand(10**9, 3, 8, 8), root / "d.mp4.img.3.pt")
    torch.save(torch.eye(3).to_sparse(), root / "e.mp4.img.3.pt")
    torch.save(torch.empty(3, 3, 8, 8, device="meta"), root / "f.mp4.img.3.pt")
    (root / "g.mp4.img.3.pt").write_bytes(as_torch(payloads()["system"]))


def make_records(root: Path) -> None:
    """What `abaw prepare` and `abaw synth` keep of their work, and the config of a published encoder."""
    record = {"source": "v.mp4", "size_bytes": 10, "faces": 0, "detector": "mtcnn", "every": 4, "people": ["v"]}
    (root / "record.json").write_text(json.dumps({**record, "n_frames": 3, "n_crops": 2, "notes": ["x"]}))
    folder = root / "encoder"
    folder.mkdir()
    config: dict[str, object] = {
        "model_type": "wav2vec2",
        "conv_kernel": [10, 3],
        "conv_dim": [8, 8],
        "conv_stride": [5, 2],
    }
    config |= {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps({**config, "num_feat_extract_layers": 2, "architectures": ["x"]}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    save_file({"x": torch.zeros(2)}, folder / "model.safetensors")
