"""Demos of the layouts of ah, vd, emi, mer and engagement: the groups of `demo_vgaf` under other names and labels.

A label follows from the emotion that a group shows, so that there is something to learn; it means nothing else.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from abaw.core.tasks import GROUP_EMOTIONS, TASKS
from abaw.datasets.demo.demo_transcripts import write_transcript
from abaw.datasets.demo.demo_vgaf import FOLDERS, RATE_HZ, DrawnGroup, GroupClip, plan_clips, write_vgaf_demo
from abaw.datasets.demo.film import PARTIAL
from abaw.datasets.demo.film_plan import check_empty
from abaw.datasets.demo.parallel import write_in_parallel

# by emotion: Positive, Neutral, Negative
PRESENT = (0, 0, 1)
EMOTIONS = ("happy", "neutral", "sad")
ENGAGEMENT = ("1", "0.66", "0")
INTENSITIES = ((0.6, 0.8, 0.2, 0.0, 0.7, 0.9), (0.2, 0.1, 0.4, 0.1, 0.1, 0.1), (0.1, 0.0, 0.3, 0.8, 0.1, 0.0))
VIDEOS_PER_PERSON = 2
SPLITS = {"train": "Training", "val": "Validation"}


def write_ah_demo(root: Path, size: str = "tiny", seed: int = 0, *, on_frames: Callable[[int], None]) -> None:
    """Write BAH's layout: videos of people, two each, what they say, and the files of the splits, of videos and of frames."""
    write_vgaf_demo(root, size, seed, on_frames=on_frames)
    rng = np.random.default_rng([seed, 13])
    lines: dict[str, list[str]] = {split: [] for split in FOLDERS}
    frames: dict[str, list[str]] = {split: [] for split in FOLDERS}
    for number, clip in enumerate(plan_clips(size, seed)):
        n_before = sum(len(each) for split, each in lines.items() if split != clip.split)
        person = 100 + n_before + (number - n_before) // VIDEOS_PER_PERSON
        name = f"{person}_Question_{number % VIDEOS_PER_PERSON + 1}_2024-11-13_Video"
        path = f"Videos/{person}/Visite_1/{name}.mp4"
        _move(root, clip, root / path)
        spoken = root / "transcription" / path / f"{name}.yml"
        text = write_transcript(spoken, bool(PRESENT[clip.emotion]), clip.n_frames / RATE_HZ, rng)
        lines[clip.split].append(f"{path},{PRESENT[clip.emotion]},{text}")
        frames[clip.split] += [f"{path}/frame-{frame}.jpg,{PRESENT[clip.emotion]}" for frame in range(clip.n_frames)]
    for folder, listed in (("split", lines), ("split-frames", frames)):
        (root / folder).mkdir()
        for split, each in listed.items():
            _write_lines(root / folder / f"{split}.txt", each)
    _clean(root)


def write_emi_demo(root: Path, size: str = "tiny", seed: int = 0, *, on_frames: Callable[[int], None]) -> None:
    """Write Hume-Vidmimic2's layout: clips with numbers for names, and a table for each split."""
    write_vgaf_demo(root, size, seed, on_frames=on_frames)
    rng, files = np.random.default_rng([seed, 12]), {"train": "train_split.csv", "val": "valid_split.csv"}
    header = ",".join(("Filename", *TASKS["emi"].outputs))
    lines: dict[str, list[str]] = {split: [header] for split in FOLDERS}
    for number, clip in enumerate(plan_clips(size, seed)):
        _move(root, clip, root / "videos" / f"{number:05d}.mp4")
        values = np.clip(np.array(INTENSITIES[clip.emotion]) + rng.normal(0, 0.05, 6), 0, 1)
        lines[clip.split].append(",".join((f"{number:05d}", *(f"{value:.3f}" for value in values))))
    for split, file in files.items():
        _write_lines(root / file, lines[split])
    _clean(root)


def write_mer_demo(root: Path, size: str = "tiny", seed: int = 0, *, on_frames: Callable[[int], None]) -> None:
    """Write the layout of track 1 of MER: clips and one table of those that are labelled."""
    write_vgaf_demo(root, size, seed, on_frames=on_frames)
    lines = ["name,discrete"]
    for number, clip in enumerate(plan_clips(size, seed)):
        _move(root, clip, root / "video" / f"sample{number:08d}.mp4")
        lines.append(f"sample{number:08d},{EMOTIONS[clip.emotion]}")
    _write_lines(root / "track1_train.csv", lines)
    _clean(root)


def write_engagement_demo(root: Path, size: str = "tiny", seed: int = 0, *, on_frames: Callable[[int], None]) -> None:
    """Write the layout of EmotiW's engagement: clips, and a number in a text file next to each."""
    write_vgaf_demo(root, size, seed, on_frames=on_frames)
    folders = {"train": "Train", "val": "Validation"}
    for number, clip in enumerate(plan_clips(size, seed)):
        path = root / folders[clip.split] / f"subject_{number}.mp4"
        _move(root, clip, path)
        _write_lines(path.with_suffix(".txt"), [ENGAGEMENT[clip.emotion]])
    _clean(root, keep=("Train", "Validation"))


def write_vd_demo(root: Path, size: str = "tiny", seed: int = 0, *, on_frames: Callable[[int], None]) -> None:
    """Write DVD's layout: frames of scenes and their labels; a group that turns negative stands for violence."""
    root = check_empty(root)
    clips = plan_clips(size, seed)
    for folder in (PARTIAL, *(f"{kind}/{split}" for kind in ("frames", "labels") for split in SPLITS.values())):
        (root / folder).mkdir(parents=True)
    n_workers = min(os.cpu_count() or 1, len(clips))
    if n_workers == 1:
        for clip in clips:
            on_frames(write_scene(root, clip))
    else:
        write_in_parallel(write_scene, root, clips, n_workers, on_frames)
    shutil.rmtree(root / PARTIAL, ignore_errors=True)


def write_scene(root: Path, clip: GroupClip) -> int:
    """Write the frames and labels of one scene, the second half of which may be violent; returns the number of frames."""
    n_calm = clip.n_frames // 2
    draws = [
        partial(DrawnGroup(np.random.default_rng([*clip.seed, part]), emotion, clip.n_frames).draw)
        for part, emotion in enumerate(("Neutral", GROUP_EMOTIONS[2] if clip.emotion else "Neutral"))
    ]
    name = f"{int(clip.name.partition('_')[0]):04d}"
    folder = root / "frames" / SPLITS[clip.split] / name
    folder.mkdir()
    lines = ["Frame_Number,Label"]
    for frame in range(clip.n_frames):
        is_second = frame >= n_calm
        Image.fromarray(draws[is_second](frame)).save(folder / f"{frame + 1:05d}.jpg", quality=85)
        lines.append(f"{frame + 1},{int(is_second and clip.emotion != 0)}")
    _write_lines(root / "labels" / SPLITS[clip.split] / f"{name}.csv", lines)
    return clip.n_frames


def _move(root: Path, clip: GroupClip, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / FOLDERS[clip.split][0] / f"{clip.name}.mp4").replace(path)


def _clean(root: Path, keep: Sequence[str] = ()) -> None:
    """Remove what is left of the other layout."""
    for folder, labels in FOLDERS.values():
        (root / labels).unlink()
        if folder not in keep:
            (root / folder).rmdir()


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
