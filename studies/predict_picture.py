"""The picture of the README: frames of an overlay above the timeline, as `abaw predict` writes them.

python -m studies.predict_picture talking_face.mp4 docs/predict.png
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from abaw.media.images import open_upright
from abaw.media.pictures import Picture, read_pictures
from abaw.predict.input_files import PredictOptions
from abaw.predict.timeline import TIMELINE
from abaw.predict.videos import OVERLAY, predict_videos

WIDTH = 1000  # of the picture
GAP = 6
N_COLOURS = 256


def compose(frames: list[Picture], timeline: Image.Image) -> Image.Image:
    """Frames from left to right, and the timeline below them."""
    width = (WIDTH - GAP * (len(frames) - 1)) // len(frames)
    height = round(width * frames[0].image.shape[0] / frames[0].image.shape[1])
    below = timeline.convert("RGB").resize(
        (WIDTH, round(WIDTH * timeline.height / timeline.width)), Image.Resampling.LANCZOS
    )
    sheet = Image.new("RGB", (WIDTH, height + GAP + below.height), "white")
    for number, frame in enumerate(frames):
        shown = Image.fromarray(frame.image).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(shown, (number * (width + GAP), 0))
    sheet.paste(below, (0, height + GAP))
    return sheet.quantize(N_COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    """Predict a video without a run and draw the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[14, 122, 160], help="from 0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        summary = predict_videos(None, PredictOptions((arguments.video,), Path(place), device="cpu"))
        (result,) = summary.results.values()
        frames = list(read_pictures(result.folder / OVERLAY, arguments.frames))
        compose(frames, open_upright(result.folder / TIMELINE)).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
