"""Write one video of the demo dataset: its crops, its labels with their quirks, and the film file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from abaw.core.output_stream import OutputStream
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS, TASKS
from abaw.datasets.demo.film_plan import Film, latents_of, person_of
from abaw.datasets.demo.latents import Latents, draw_staging
from abaw.datasets.demo.scene import SCENE_HEIGHT_PX, SCENE_WIDTH_PX, SceneRenderer
from abaw.datasets.demo.voice import FilmWriter, speak

SPLIT_FOLDERS = {"train": "Train_Set", "validation": "Validation_Set"}
LABEL_FOLDERS = {
    "va": "VA_Estimation_Challenge",
    "expr": "EXPR_Recognition_Challenge",
    "au": "AU_Detection_Challenge",
}
MTL_FILES = {"train": "training_set_annotations.txt", "validation": "validation_set_annotations.txt"}
MTL_FOLDER, MTL_HEADER = "MTL_Challenge", "image,valence,arousal,expression,aus"
LABEL_HEADERS = {"va": "valence,arousal", "expr": ",".join(EXPRESSIONS), "au": ",".join(ACTION_UNITS)}
PARTIAL = ".partial"  # folder under the root for incomplete files
JPEG_QUALITY = 92
PROGRESS_FRAMES = 50  # frames between two reports of progress


@dataclass(frozen=True)
class Actor:
    """One face of a film, ready to be drawn and heard."""

    name: str
    latents: Latents
    renderer: SceneRenderer
    present: NDArray[np.bool_]
    voice: NDArray


def write_film(root: Path, film: Film) -> Iterator[int]:
    """Write crops, labels and video of one film; files appear only once they are complete.

    Args:
        root: root of the dataset.
        film: what to write.

    Yields:
        The number of faces drawn since the last time.
    """
    actors = [_cast(film, face) for face in range(len(film.seeds))]
    partial = root / PARTIAL
    for actor in actors:
        (partial / actor.name).mkdir()
    picture = partial / f"{film.base}.mp4"
    width = SCENE_WIDTH_PX * len(actors)
    sound = [actor.voice for actor in actors]
    with FilmWriter(picture, width, SCENE_HEIGHT_PX, film.rate_hz, sound) as writer:
        for frame in range(film.n_frames):
            writer.write(np.hstack([_draw(actor, frame, partial) for actor in actors]))
            if (frame + 1) % PROGRESS_FRAMES == 0:
                yield PROGRESS_FRAMES * len(actors)
    for face, actor in enumerate(actors):
        _write_labels(root, film, face, actor)
        (partial / actor.name).replace(root / "cropped_aligned" / actor.name)
    picture.replace(root / "videos" / picture.name)
    yield film.n_frames % PROGRESS_FRAMES * len(actors)


def _cast(film: Film, face: int) -> Actor:
    """Prepare one face of a film."""
    rngs = [np.random.default_rng([*film.seeds[face], stream]) for stream in (3, 4, 5, 6)]
    latents = latents_of(film, face)
    staging = draw_staging(rngs[0], film.n_frames, film.rate_hz)
    return Actor(
        name=film.names[face],
        latents=latents,
        renderer=SceneRenderer(person_of(film.seeds[face]), latents, staging, rngs[1]),
        present=_draw_present(rngs[2], film.n_frames, film.missing_at),
        voice=speak(rngs[3], latents.arousal, film.rate_hz),
    )


def _draw(actor: Actor, frame: int, partial: Path) -> NDArray:
    """Draw one frame of a face and save its crop if it has one; returns the scene."""
    scene = actor.renderer.scene(frame)
    if actor.present[frame]:
        crop = Image.fromarray(actor.renderer.crop(frame, scene))
        with OutputStream(partial / actor.name / f"{frame + 1:05d}.jpg") as stream:
            crop.save(stream, "JPEG", quality=JPEG_QUALITY)
    return scene


def _draw_present(rng: np.random.Generator, n_frames: int, missing_at: str) -> NDArray[np.bool_]:
    """(frames,) False in one to three runs, 5 to 8 % of the frames in all."""
    n_runs = int(rng.integers(1, 4))
    length = max(1, round(n_frames * rng.uniform(0.05, 0.08) / n_runs))
    # One run in each equal part of the video, so that runs neither overlap nor touch.
    starts = [int(rng.integers(1, n_frames // n_runs - length)) + run * n_frames // n_runs for run in range(n_runs)]
    if missing_at == "start":
        starts[0] = 0
    elif missing_at == "end":
        starts[-1] = n_frames - length
    present = np.ones(n_frames, bool)
    for start in starts:
        present[start : start + length] = False
    return present


def _write_labels(root: Path, film: Film, face: int, actor: Actor) -> None:
    """Write the label files of one face, and keep its multi-task rows for `write_annotations`."""
    rng = np.random.default_rng([*film.seeds[face], 7])
    tables = {
        "va": np.column_stack([actor.latents.valence, actor.latents.arousal]).round(3),
        "expr": actor.latents.expression_labels()[:, None],
        "au": actor.latents.unit_labels(),
    }
    for task, table in tables.items():
        # Drawn for every task, so that leaving one out does not change the others.
        tables[task] = table = _invalidate(rng, table, TASKS[task].invalid)
        if task not in film.tasks:
            tables[task] = np.full_like(table, TASKS[task].invalid)
            continue
        if film.n_spare_rows < 0:
            table = table[: film.n_spare_rows]
        else:
            table = np.concatenate([table, table[-1:].repeat(film.n_spare_rows, 0)])
        waiting = root / PARTIAL / f"{actor.name}.{task}.txt"
        _write_lines(waiting, [LABEL_HEADERS[task], *_as_lines(table)])
        waiting.replace(root / "labels" / LABEL_FOLDERS[task] / SPLIT_FOLDERS[film.split] / f"{actor.name}.txt")
    listed = zip(
        np.flatnonzero(actor.present).tolist(), _as_lines(np.hstack(list(tables.values()))[actor.present]), strict=True
    )
    rows = [f"{actor.name}/{frame + 1:05d}.jpg,{values}" for frame, values in listed]
    _write_lines(_mtl_rows(root, actor.name), rows)


def write_annotations(root: Path, films: Sequence[Film]) -> None:
    """Join the multi-task rows of all films into the annotation file of each split: the frames that have a crop."""
    folder = root / "labels" / MTL_FOLDER
    folder.mkdir()
    for split, file in MTL_FILES.items():
        names = [name for film in films if film.split == split for name in film.names]
        rows = "".join(_mtl_rows(root, name).read_text(encoding="utf-8") for name in names)
        waiting = root / PARTIAL / file
        waiting.write_text(f"{MTL_HEADER}\n{rows}", encoding="utf-8", newline="\n")
        waiting.replace(folder / file)


def _mtl_rows(root: Path, name: str) -> Path:
    """The file that keeps the multi-task rows of a face."""
    return root / PARTIAL / f"{name}.mtl.txt"


def _as_lines(table: NDArray) -> Iterator[str]:
    """The rows of a table, their values separated by commas."""
    return (",".join(f"{value:g}" for value in row) for row in table.tolist())


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _invalidate(rng: np.random.Generator, table: NDArray, invalid: float) -> NDArray:
    """Mark some labels as not annotated: a run of whole rows and runs of single values.

    Args:
        rng: source of randomness.
        table: (frames, columns) labels.
        invalid: the value that marks them.

    Returns:
        A copy with about 2 % of the rows and 2 % of the values of two columns marked.
    """
    table = table.copy()
    n_frames, n_columns = table.shape
    length = max(2, n_frames // 50)
    # Each run is in its own part of the video, so that none covers another.
    start = int(rng.integers(n_frames // 2 - length))
    table[start : start + length] = invalid
    if n_columns > 1:
        quarter = n_frames // 4
        for index, column in enumerate(rng.choice(n_columns, size=2, replace=False)):
            start = (2 + index) * quarter + int(rng.integers(quarter - length))
            table[start : start + length, column] = invalid
    return table
