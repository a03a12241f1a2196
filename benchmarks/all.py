"""All benchmarks, one after another, each in a process of its own.

python -m benchmarks.all --out benchmarks.json --markdown docs/benchmarks.md
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.markdown import as_markdown
from benchmarks.measure import say

NAMES = (
    *(
        "startup",
        "demo_render",
        "synth",
        "store_io",
        "importing",
        "training",
        "beyond_memory",
        "packed_store",
        "finetuning",
        "busy",
        "memory",
        "scoring",
        "submission",
    ),
    *("extraction", "cluster", "backbones", "audio", "faces", "from_videos", "predict", "demo"),
)


def run_all(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Run benchmarks; their tables go to standard error, their reports are returned."""
    reports = []
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        reports.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    return reports


def main() -> None:
    """Measure, write the files that were asked for, and print all reports as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--markdown", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; choose of: {', '.join(NAMES)}")
    content = {"benchmarks": run_all(tuple(arguments.names) or NAMES)}
    if arguments.out:
        arguments.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if arguments.markdown:
        command = shlex.join(["python", "-m", "benchmarks.all", *sys.argv[1:]])
        arguments.markdown.write_text(as_markdown(content["benchmarks"], command), encoding="utf-8")
    missed = [
        wanted["text"] for report in content["benchmarks"] for wanted in report["requirements"] if not wanted["met"]
    ]
    say(f"Missed: {'; '.join(missed)}." if missed else "All requirements are met.")
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
