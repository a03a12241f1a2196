"""A demo of compound expressions: faces with labels of basic ones, and a sample of the frames to hand in."""

import shutil
from collections.abc import Callable
from pathlib import Path

from abaw.core.tasks import TASKS
from abaw.datasets.demo import write_demo
from abaw.datasets.demo.film import LABEL_FOLDERS, MTL_FOLDER, SPLIT_FOLDERS

CE_SAMPLE = "CE_sample.txt"


def write_ce_demo(root: Path, size: str = "tiny", seed: int = 0, *, on_frames: Callable[[int], None]) -> None:
    """Write the demo of Aff-Wild2 with labels of expressions alone, and the sample of a submission of `ce`.

    The challenge has test videos alone. Here these are the validation videos, so that the sample lists their crops.
    """
    write_demo(root, size, seed, on_frames=on_frames)
    labels = root / "labels"
    for folder in (LABEL_FOLDERS["va"], LABEL_FOLDERS["au"], MTL_FOLDER):
        shutil.rmtree(labels / folder)
    files = sorted((labels / LABEL_FOLDERS["expr"] / SPLIT_FOLDERS["validation"]).glob("*.txt"))
    images = [image for file in files for image in sorted((root / "cropped_aligned" / file.stem).glob("*.jpg"))]
    rows = "".join(f"{image.parent.name}/{image.name},\n" for image in images)
    (root / CE_SAMPLE).write_text(f"{TASKS['ce'].submission.images}\n{rows}", encoding="utf-8", newline="\n")
