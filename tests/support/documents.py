"""README and the pages of docs/: their blocks of code, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from abaw.tests.support.paths import CHECKOUT

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
MARK = re.compile(r"<!-- (.+) -->")
ASSIGNMENT = re.compile(r"[A-Z_]+=")
ABAW = re.compile(r"`(abaw [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: file name of its page.
        line: where its fence begins, from 1.
        mark: the HTML comment on the line before it, such as `needs: data` or `run: day`; empty without one.
    """

    page: str
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def lines(self) -> list[str]:
        """Its commands, one each, without empty lines and comments."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in joined if line.strip() and not line.lstrip().startswith("#")]

    def commands(self) -> list[list[str]]:
        """Arguments of each `abaw` in it, whatever starts it: a path, variables, torchrun."""
        return [words for line in self.lines() for part in _parts(line) if (words := _arguments(part)) is not None]


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = path.read_text()
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2]
        mark = MARK.fullmatch(before.strip())
        body = "".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        yield Block(path.name, line, match["language"], mark[1] if mark else "", body)


def inline_commands(path: Path) -> list[list[str]]:
    """Words after `abaw` of each command within the sentences of a page."""
    sentences = FENCE.sub("", path.read_text())
    return [shlex.split(match.replace("\n", " "))[1:] for match in ABAW.findall(sentences)]


def _parts(line: str) -> list[list[str]]:
    """The commands of a line that are joined by && or pipes; redirections are left out."""
    parts: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word in ("&&", "|", ";"):
            parts.append([])
        elif word.startswith((">", "2>")):
            break
        else:
            parts[-1].append(word)
    return parts


def _arguments(words: list[str]) -> list[str] | None:
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    if words and words[0] in ("uv", "torchrun", "apptainer"):
        starts = [number for number, name in enumerate(words) if name in ("abaw", "abaw.sif")]
        return words[starts[0] + 1 :] if starts and words[1] != "build" else None
    return words[1:] if words and Path(words[0]).name == "abaw" else None
