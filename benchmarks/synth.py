"""How fast synthetic group-emotion clips are made, against pasting cut-outs one by one from their files.

python -m benchmarks.synth
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from abaw.datasets.synth import LABELS, SynthOptions, write_clips
from abaw.datasets.synth.clips_writer import write_video
from abaw.datasets.synth.cutouts import find_material
from abaw.datasets.synth.render import ClipMaker, SynthClip, render
from benchmarks.measure import Report, Requirement, in_turns, median_ratio, say

N_CLIPS_COMMAND = 150  # enough for starting the processes not to count for most of it
N_CLIPS = 3  # of these: those with the middle numbers of faces; the usual way takes seconds for each
N_CUTOUTS = 40  # of a class
CUTOUT_PX = 350
ROUNDS = 3
METHOD = [
    f"Clips of 75 frames of 326x326 with 3 to 15 faces, {N_CUTOUTS} smooth RGBA cut-outs of {CUTOUT_PX} px a class as "
    "PNG in the page cache, drawn backgrounds.",
    "Usual: for every frame and face, Pillow opens the cut-out, resizes, rotates with expand and pastes it on a copy "
    "of the background, in one process; the plan (places, scales, angles) is given to it free of charge.",
    f"Ours plans too. Both make the same {N_CLIPS} clips with the middle number of faces, in memory or on to MP4 with "
    "the same encoder; 'cold' decodes every cut-out again in each round, 'warm' has decoded them before. The command "
    f"makes {N_CLIPS_COMMAND} clips in a new folder with one process per processor, their start and cold decoding "
    "included; ratios are per clip.",
]


def main() -> None:
    """Measure and print."""
    report = Report("synth", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_cutouts(root / "faces")
        warm = new_maker(root)
        clips = middle_clips(warm)
        apart = [np.abs(usual(clip)[::15].astype(int) - render(clip, 75)[::15]).mean() for clip in clips.values()]
        say(f"the two differ by {np.mean(apart):.3g} grey levels on average")
        timings = in_turns(actions(root, warm, clips), ROUNDS)
    counts = {name: N_CLIPS_COMMAND if name.startswith("command") else N_CLIPS for name in timings}
    clip_s = {name: [wall / counts[name] for wall in timing.wall_s] for name, timing in timings.items()}
    ratio = {
        f"{ours} against {theirs}": median_ratio(clip_s[theirs], clip_s[ours])
        for theirs, ours in (
            ("usual, memory", "ours, memory, cold"),
            ("usual, memory", "ours, memory, warm"),
            ("usual, mp4", "ours, mp4, cold"),
            ("usual, mp4", "ours, mp4, warm"),
            ("usual, mp4", "command, mp4"),
        )
    }
    wanted = ("ours, memory, cold against usual, memory", "command, mp4 against usual, mp4")
    report.requirements += [Requirement(name, ratio.pop(name), 20) for name in wanted]
    report.ratios = ratio
    report.medians = {f"{name}, ms a clip": 1000 * float(np.median(values)) for name, values in clip_s.items()}
    report.medians["mean difference of the two, grey levels"] = float(np.mean(apart))
    report.publish()


def middle_clips(maker: ClipMaker) -> dict[int, SynthClip]:
    """Clips by number that show as many faces, over all frames, as the middle ones of those that the command makes."""
    clips = {number: maker.plan(number) for number in range(N_CLIPS_COMMAND)}
    by_faces = sorted(clips, key=lambda number: int(clips[number].paths.n_shown.sum()))
    first = (N_CLIPS_COMMAND - N_CLIPS) // 2
    return {number: clips[number] for number in by_faces[first : first + N_CLIPS]}


def actions(root: Path, warm: ClipMaker, clips: dict[int, SynthClip]) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""

    def to_video(draw: Callable[[int], np.ndarray]) -> None:
        for number in clips:
            write_video(root / f"{number}.mp4", draw(number))

    def command() -> None:
        with tempfile.TemporaryDirectory(dir=root) as out:
            write_clips(root / "faces", None, Path(out), N_CLIPS_COMMAND, options=SynthOptions(motion="path"))

    return {
        "usual, memory": lambda: [usual(clip) for clip in clips.values()],
        "usual, mp4": lambda: to_video(lambda number: usual(clips[number])),
        "ours, memory, cold": lambda: list(map(new_maker(root).draw, clips)),
        "ours, memory, warm": lambda: list(map(warm.draw, clips)),
        "ours, mp4, cold": lambda: to_video(new_maker(root).draw),
        "ours, mp4, warm": lambda: to_video(warm.draw),
        "command, mp4": command,
    }


def new_maker(root: Path) -> ClipMaker:
    """A maker that has not decoded anything yet."""
    return ClipMaker(find_material(root / "faces", None), SynthOptions(motion="path"))


def usual(clip: SynthClip) -> np.ndarray:
    """(75, 326, 326, 3) uint8: every face of every frame from its file."""
    background = Image.fromarray(clip.background)
    frames = []
    for number in range(75):
        frame = background.copy()
        for face, corners, n_shown in zip(clip.faces, clip.paths.corners, clip.paths.n_shown, strict=True):
            if number < n_shown:
                cutout = Image.open(face.file).convert("RGBA")
                size = tuple(round(side * face.longest_px / max(cutout.size)) for side in cutout.size)
                turned = cutout.resize(size, Image.Resampling.BILINEAR)
                if face.angle_deg:
                    turned = turned.rotate(face.angle_deg, Image.Resampling.BILINEAR, expand=True)
                left, top = turned.getchannel("A").getbbox()[:2]
                x, y = corners[number].tolist()
                frame.paste(turned, (x - left, y - top), turned)
        frames.append(np.asarray(frame))
    return np.stack(frames)


def draw_cutouts(root: Path) -> None:
    """Write ovals of smooth colours that touch the sides of their images."""
    rng = np.random.default_rng(0)
    for label in LABELS:
        (root / label).mkdir(parents=True)
        for number in range(N_CUTOUTS):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            image = coarse.resize((CUTOUT_PX, CUTOUT_PX), Image.Resampling.BICUBIC)
            outline = Image.new("L", image.size)
            ImageDraw.Draw(outline).ellipse((0, 0, CUTOUT_PX - 1, CUTOUT_PX - 1), fill=255)
            image.putalpha(outline)
            image.save(root / label / f"{number:03d}.png")


if __name__ == "__main__":
    main()
