"""A video in, its emotions out: `abaw predict` against the sum of its parts, each run by itself.

python -m benchmarks.predict [VIDEO]
"""

import sys
import tempfile
from pathlib import Path

from abaw.core.progress import Silent
from abaw.core.tasks import get_task
from abaw.datasets.demo import write_demo
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.media.pictures import read_pictures
from abaw.media.probe import probe_timing
from abaw.media.redraw import redraw
from abaw.pipeline import ExtractOptions, FeatureStore, extract, predict_stream, train_seeds
from abaw.predict.input_files import PredictOptions
from abaw.predict.overlay import Overlay
from abaw.predict.videos import predict_video, predict_videos
from abaw.train.config import make_config
from abaw.train.runs import Run
from benchmarks.extraction import Places
from benchmarks.faces import VIDEO
from benchmarks.measure import Report, Requirement, in_turns

ROUNDS = 5
METHOD = [
    "One video in the page cache, of one face: single_face.mp4, 640x360, 72 frames, unless another is named; hog and a ridge "
    "probe for valence and arousal, on the processor. Every step loads the networks that it needs.",
    "The parts: `abaw prepare`, `abaw extract` on what it made, and drawing and encoding the overlay with the rows at hand. "
    "Predicting is all of `abaw predict` but the start of Python: these, the head, the tables and the timeline.",
    "The stream takes the frames of the video as they are decoded, with `fer`, which it loads, and detects four at a time, "
    "as those of a camera.",
]


def make_run(folder: Path) -> Run:
    """A run to predict with, trained on the tiny demo."""
    write_demo(folder / "data", "tiny")
    extract(ExtractOptions(folder / "data", folder / "store.zarr", ("hog",), device="cpu"))
    config = make_config({"task": "va", "features": ("hog",), "head": {"name": "ridge"}})
    return train_seeds([config], FeatureStore.open(folder / "store.zarr"), folder / "runs")[0][0]


def main() -> None:
    """Measure and print."""
    video = Path(sys.argv[1]) if len(sys.argv) > 1 else VIDEO
    report, n_frames = Report("predict", METHOD), sum(1 for _ in read_pictures(video))
    with tempfile.TemporaryDirectory() as folder:
        places, run = Places(Path(folder) / "places"), make_run(Path(folder))
        prepared = Path(folder) / "prepared"
        prepare_videos(PrepareOptions((video,), prepared, device="cpu"), Silent())
        rows = {row.frame: {row.person: row} for row in predict_video(run, video, device="cpu")}
        people = tuple({row.person: row for by_person in rows.values() for row in by_person.values()})
        overlay = Overlay(get_task("va"), people)

        def draw() -> None:
            out = places.new()
            out.mkdir(parents=True)
            for _ in redraw(
                video, out / "overlay.mp4", lambda number, image: overlay.draw(image, rows.get(number + 1, {}))
            ):
                pass

        actions = {
            "predict": lambda: predict_videos(run, PredictOptions((video,), places.new(), device="cpu")),
            "predict without overlay": lambda: predict_videos(
                run, PredictOptions((video,), places.new(), overlay=False, device="cpu")
            ),
            "prepare": lambda: prepare_videos(PrepareOptions((video,), places.new(), device="cpu"), Silent()),
            "extract": lambda: extract(ExtractOptions(prepared, places.new(), ("hog",), device="cpu")),
            "overlay": draw,
        }
        fps, options = probe_timing(video).fps, PredictOptions(device="cpu")

        def stream() -> None:
            frames = ((picture.time_s, picture.image) for picture in read_pictures(video))
            for _ in predict_stream(None, frames, fps, options):
                pass

        actions["stream"] = stream
        timings = in_turns(actions, ROUNDS)
    parts = sum(timings[name].median_s for name in ("prepare", "extract", "overlay"))
    share = timings["predict"].median_s / parts
    report.requirements.append(Requirement("predict, end to end, of the sum of its parts", share, 1.15, at_least=False))
    rate = n_frames / timings["stream"].median_s
    report.requirements.append(Requirement("stream with fer, of the frame rate of the video", rate / fps, 1.0))
    for name, timing in timings.items():
        report.medians[f"{name}, frames/s"] = n_frames / timing.median_s
    report.publish()


if __name__ == "__main__":
    main()
