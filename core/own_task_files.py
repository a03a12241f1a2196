"""The built-in tasks that are task files, in the folder tasks/; the entry points name them."""

from pathlib import Path

from abaw.core.task_files import read_task_file

FOLDER = Path(__file__).resolve().parent.parent / "tasks"
AH, AH_FRAMES, VD, EMI, CE, MER, ENGAGEMENT = (
    read_task_file(FOLDER / f"{name}.toml") for name in ("ah", "ah-frames", "vd", "emi", "ce", "mer", "engagement")
)
