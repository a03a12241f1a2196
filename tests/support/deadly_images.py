"""Images that end, or hang, every process that opens them."""

import os
from collections import Counter
from pathlib import Path

# Put into the Python of each process: whoever opens such an image dies of it, and leaves a letter that says so, or hangs.
SITE_OF_THE_DEADLY = """
import os, sys, time

def die(event, arguments):
    if event == "open" and str(arguments[0]).endswith(os.environ["DEADLY"]):
        while os.environ["ENDING"] == "hang":
            time.sleep(1)
        letter = f"{arguments[0]} {os.getpid()}\\n".encode()
        os.write(os.open(os.environ["LETTERS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), letter)
        os._exit(1)

sys.addaudithook(die)
"""


def deadly_environment(folder: Path, python_path: str, ending: str, hang: bool) -> dict[str, str]:
    """The environment of processes that die, or hang, when they open a file whose name ends so.

    Args:
        folder: gets the Python code that kills, and `letters`: a line for each death.
    """
    (folder / "sitecustomize.py").write_text(SITE_OF_THE_DEADLY)
    python = os.pathsep.join([str(folder), python_path])
    how = "hang" if hang else "die"
    return {"PYTHONPATH": python, "DEADLY": ending, "ENDING": how, "LETTERS": str(folder / "letters")}


def count_deaths(letters: Path) -> Counter[str]:
    """The number of processes that each video has killed; one that decodes in several threads may leave several letters."""
    lines = [line.split() for line in letters.read_text().splitlines()]
    return Counter(video for video, _ in {(Path(image).parent.name, process) for image, process in lines})
