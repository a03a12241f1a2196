"""Small sets of drawn faces in the layouts of sets of still images, each in a folder of its own.

The people of training and validation differ. As in the real sets some listed images are missing, some have no label, a
suffix is in capitals, and a table has no header.
"""

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from abaw.core.errors import UsageError
from abaw.core.output_stream import OutputStream
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS
from abaw.datasets.demo.film import PARTIAL
from abaw.datasets.demo.film_plan import check_empty
from abaw.datasets.demo.identity import draw_identity
from abaw.datasets.demo.latents import N_STAGINGS, N_VARIATIONS, Latents, compose_latents, compose_staging
from abaw.datasets.demo.scene import SceneRenderer

SIZES = {"tiny": (3, 2), "small": (12, 6), "large": (60, 20)}  # people for training and for validation, in each set
N_EACH = 8  # images of a person: one of each expression
KINDS = (
    "affectnet",
    "affectnet-small",
    "rafdb",
    "ferplus",
    "ferplus-png",
    "disfa",
    "bp4d",
    "emotionet",
    "folders",
    "table",
)
QUALITY = 92
DISFA_UNITS, BP4D_UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26), (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)


@dataclass(frozen=True)
class Drawn:
    """One drawn face and what it shows.

    Attributes:
        image: (112, 112, 3) uint8 RGB.
        person: number of the person in its set, from 1.
        expression: index in `EXPRESSIONS`.
        units: by number, 0 or 1.
    """

    image: NDArray[np.uint8]
    split: str
    person: int
    expression: int
    valence: float
    arousal: float
    units: dict[int, int]


def n_images_of(size: str, seed: int = 0) -> int:
    """Number of faces that `write_stills_demo` draws."""
    return len(KINDS) * N_EACH * sum(SIZES.get(size, ()))


def write_stills_demo(
    root: Path, size: str = "tiny", seed: int = 0, on_frames: Callable[[int], None] = lambda n_frames: None
) -> None:
    """Write a set in each layout.

    Args:
        root: folder to create; it may exist if it is empty.
        size: a name of `SIZES`.
        seed: same size and seed, same files, byte by byte.
        on_frames: called after each set with the number of its faces.

    Raises:
        UsageError: an unknown size, or `root` is not empty.
    """
    if size not in SIZES:
        raise UsageError(f"Unknown demo size {size!r}. Choose one of: {', '.join(SIZES)}.")
    root = check_empty(root)
    root.mkdir(parents=True, exist_ok=True)
    try:
        for number, kind in enumerate(KINDS):
            faces = list(_draw_set(size, (seed, number)))
            (root / PARTIAL).mkdir()
            WRITERS[kind](root / PARTIAL, faces)
            (root / PARTIAL).replace(root / kind)
            on_frames(len(faces))
    finally:
        shutil.rmtree(root / PARTIAL, ignore_errors=True)


def _draw_set(size: str, seed: tuple[int, int]) -> Iterator[Drawn]:
    n_train, n_val = SIZES[size]
    for person in range(1, n_train + n_val + 1):
        rng = np.random.default_rng([*seed, person])
        identity = draw_identity(rng)
        latents = compose_latents(
            expression=np.eye(len(EXPRESSIONS)),
            strength=rng.uniform(0.75, 1, N_EACH),
            variation=rng.standard_normal((N_EACH, N_VARIATIONS - 1)),
            blink=np.zeros(N_EACH),
        )
        staging = compose_staging(0.8 * rng.standard_normal((N_EACH, N_STAGINGS)), rng.uniform(-0.16, 0.16))
        renderer = SceneRenderer(identity, latents, staging, rng, 2.0)
        for number in range(N_EACH):
            image = renderer.crop(number, renderer.scene(number))
            yield _drawn(image, latents, number, "train" if person <= n_train else "val", person)


def _drawn(image: NDArray[np.uint8], latents: Latents, number: int, split: str, person: int) -> Drawn:
    names = [int(name.removeprefix("AU")) for name in ACTION_UNITS]
    units = dict(zip(names, latents.unit_labels()[number].tolist(), strict=True))
    valence, arousal = float(latents.valence[number]), float(latents.arousal[number])
    return Drawn(image, split, person, number, valence, arousal, units)


def _save(path: Path, image: NDArray[np.uint8], side: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image)
    picture = picture.resize((side, side), Image.Resampling.BILINEAR) if side else picture
    with OutputStream(path) as stream:
        if path.suffix.lower() == ".png":
            picture.save(stream, "PNG")
        else:
            picture.save(stream, "JPEG", quality=QUALITY)


def _write_table(path: Path, rows: list[list[object]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def _affectnet(root: Path, faces: list[Drawn]) -> None:
    """The table of training has no header; one face is uncertain, one image is missing, one suffix is in capitals."""
    classes = {expression: number for number, expression in enumerate((0, 4, 5, 6, 3, 2, 1, 7))}
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    rows: dict[str, list[list[object]]] = {"train": [], "val": [list(header.split(","))]}
    for number, face in enumerate(faces):
        name = f"{number % 3}/{number:032x}.{'JPG' if number == 1 else 'jpg'}"
        _save(root / "Manually_Annotated_Images" / name, face.image)
        points = ";".join(f"{value:.1f}" for value in _landmarks())
        expression: object = 9 if face.expression == 7 else classes[face.expression]
        affect = (-2, -2) if expression == 9 else (round(face.valence, 4), round(face.arousal, 4))
        rows[face.split].append([name, 0, 0, 112, 112, points, expression, *affect])
    rows["val"].append(["9/missing.jpg", 0, 0, 112, 112, points, 1, 0.5, 0.5])
    _write_table(root / "training.csv", rows["train"])
    _write_table(root / "validation.csv", rows["val"])


def _landmarks() -> list[float]:
    """x and y of 68 points of which those of eyes, nose and mouth are where `abaw prepare` puts them."""
    points = np.full((68, 2), 56.0)
    points[36:42], points[42:48], points[30] = (38.3, 51.7), (73.5, 51.5), (56.0, 71.7)
    points[48], points[54] = (41.5, 92.4), (70.7, 92.2)
    return [float(value) for value in points.ravel()]


def _small_affectnet(root: Path, faces: list[Drawn]) -> None:
    """Numbers as texts in arrays without axes; the eighth class is contempt."""
    classes = {expression: number for number, expression in enumerate((0, 4, 5, 6, 3, 2, 1, 7))}
    for number, face in enumerate(faces):
        home = root / f"{face.split}_set"
        _save(home / "images" / f"{number}.jpg", face.image)
        (home / "annotations").mkdir(exist_ok=True)
        values = {"exp": str(classes[face.expression]), "val": f"{face.valence:.4f}", "aro": f"{face.arousal:.4f}"}
        for name, value in values.items():
            np.save(home / "annotations" / f"{number}_{name}.npy", np.array(value))
        np.save(home / "annotations" / f"{number}_lnd.npy", np.array(_landmarks()))


def _rafdb(root: Path, faces: list[Drawn]) -> None:
    classes = {6: 1, 3: 2, 2: 3, 4: 4, 5: 5, 1: 6, 0: 7}
    lines, counts = [], {"train": 0, "val": 0}
    for face in faces:
        if face.expression not in classes:
            continue
        counts[face.split] += 1
        name = f"{'train' if face.split == 'train' else 'test'}_{counts[face.split]:05d}"
        lines.append(f"{name}.jpg {classes[face.expression]}")
        _save(root / "Image" / "aligned" / f"{name}_aligned.jpg", face.image, 100)
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n", newline="\n")


def _votes(faces: list[Drawn], usages: dict[str, str]) -> list[list[object]]:
    columns = (0, 4, 6, 5, 1, 2, 3, 7)  # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt
    rows: list[list[object]] = [
        ["Usage", "Image name", "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
         "unknown", "NF"]
    ]  # fmt: skip
    for number, face in enumerate(faces):
        counts = [7 if face.expression == column else 0 for column in columns]
        counts[(columns.index(face.expression) + 1) % 8] += 3
        rows.append([usages[face.split], f"fer{number:07d}.png", *counts, 0, 0])
    rows.append(["PrivateTest", "", *[0] * 9, 10])  # no face
    return rows


def _ferplus(root: Path, faces: list[Drawn]) -> None:
    usages = {"train": "Training", "val": "PublicTest"}
    _write_table(root / "fer2013new.csv", _votes(faces, usages))
    rows: list[list[object]] = [["emotion", "pixels", "Usage"]]
    for face in faces:
        grey = np.asarray(Image.fromarray(face.image).convert("L").resize((48, 48), Image.Resampling.BILINEAR))
        rows.append([0, " ".join(map(str, grey.ravel().tolist())), usages[face.split]])
    rows.append([0, " ".join(["0"] * 48 * 48), "PrivateTest"])
    _write_table(root / "fer2013.csv", rows)


def _ferplus_png(root: Path, faces: list[Drawn]) -> None:
    _write_table(root / "fer2013new.csv", _votes(faces, {"train": "Training", "val": "PublicTest"}))
    for number, face in enumerate(faces):
        folder = "FER2013Train" if face.split == "train" else "FER2013Valid"
        grey = Image.fromarray(face.image).convert("L").resize((48, 48), Image.Resampling.BILINEAR)
        _save(root / folder / f"fer{number:07d}.png", np.asarray(grey))


def _disfa(root: Path, faces: list[Drawn]) -> None:
    """Intensities 3 and 1; the last frame of each person has no image."""
    for person in sorted({face.person for face in faces}):
        own = [face for face in faces if face.person == person]
        name = f"SN{person:03d}"
        for frame, face in enumerate(own, 1):
            _save(root / "Images" / name / f"{frame}.jpg", face.image)
        for unit in DISFA_UNITS:
            values = [3 if face.units.get(unit, 0) else 1 for face in own]
            rows: list[list[object]] = [[frame, value] for frame, value in enumerate([*values, 0], 1)]
            _write_table(root / "ActionUnit_Labels" / name / f"{name}_au{unit}.txt", rows)


def _bp4d(root: Path, faces: list[Drawn]) -> None:
    """Two tasks a person; AU7 is unknown in the first frame of each."""
    for person in sorted({face.person for face in faces}):
        own, name = [face for face in faces if face.person == person], f"F{person:03d}"
        for task, part in (("T1", own[: N_EACH // 2]), ("T2", own[N_EACH // 2 :])):
            rows: list[list[object]] = [[0, *BP4D_UNITS]]
            for frame, face in enumerate(part, 20):
                _save(root / "Sequences" / name / task / f"{frame:04d}.jpg", face.image)
                values = [9 if unit == 7 and frame == 20 else face.units.get(unit, 0) for unit in BP4D_UNITS]
                rows.append([frame, *values])
            _write_table(root / "AUCoding" / f"{name}_{task}.csv", rows)


def _emotionet(root: Path, faces: list[Drawn]) -> None:
    """Addresses in place of paths; AU7 and AU15 are unknown."""
    tables: dict[str, list[list[object]]] = {
        split: [["URL", *(f"AU {unit}" for unit in range(1, 61))]] for split in ("train", "val")
    }
    for number, face in enumerate(faces):
        name = f"N_{number:010d}.jpg"
        _save(root / "images" / name, face.image)
        values = [999 if unit in (7, 15) else face.units.get(unit, 0) for unit in range(1, 61)]
        tables[face.split].append([f"http://127.0.0.1/emotionet/{name}", *values])
    _write_table(root / "emotionet_train.txt", tables["train"], "\t")
    _write_table(root / "emotionet_validation.txt", tables["val"], "\t")


def _folders(root: Path, faces: list[Drawn]) -> None:
    for number, face in enumerate(faces):
        _save(root / face.split / EXPRESSIONS[face.expression].lower() / f"{number}.png", face.image)


def _table(root: Path, faces: list[Drawn]) -> None:
    """All labels, with people and splits."""
    rows: list[list[object]] = [["image", "label", "valence", "arousal", *ACTION_UNITS, "split", "subject"]]
    for number, face in enumerate(faces):
        name = f"faces/{number}.jpg"
        _save(root / name, face.image)
        units = [face.units[int(unit.removeprefix("AU"))] for unit in ACTION_UNITS]
        affect = [f"{face.valence:.4f}", f"{face.arousal:.4f}"]
        rows.append([name, EXPRESSIONS[face.expression], *affect, *units, face.split, f"person-{face.person}"])
    _write_table(root / "faces.csv", rows)


WRITERS: dict[str, Callable[[Path, list[Drawn]], None]] = dict(
    zip(
        KINDS,
        (_affectnet, _small_affectnet, _rafdb, _ferplus, _ferplus_png, _disfa, _bp4d, _emotionet, _folders, _table),
        strict=True,
    )
)
