"""Measure the ideas, print a table for each, and write the files that were asked for.

python -m studies [IDEA...] --out ideas.json --markdown docs/recipes.md
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from studies.report import as_record, as_sections, replace_sections
from studies.workers import IDEAS, measure_all


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m studies", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="IDEA", help=f"only these, of {', '.join(IDEAS)}")
    parser.add_argument("--seeds", type=int, default=5, help="how many, 2 or more (default: 5)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--results", type=Path, help="JSON file of an earlier run to print again; nothing is measured")
    parser.add_argument("--markdown", type=Path, help="document whose sections about these ideas are replaced")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in IDEAS]
    if unknown:
        parser.error(f"unknown idea {unknown[0]!r}; choose of: {', '.join(IDEAS)}")
    if arguments.seeds < 2:
        parser.error(f"--seeds must be 2 or more, found {arguments.seeds}")
    if arguments.results:
        record = json.loads(arguments.results.read_text(encoding="utf-8"))
    else:
        begin = time.perf_counter()
        found = measure_all(tuple(dict.fromkeys(arguments.names)) or tuple(IDEAS), arguments.seeds)
        command = shlex.join(["python", "-m", "studies", *sys.argv[1:]])
        record = as_record(found, time.perf_counter() - begin, command)
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sections = as_sections(IDEAS, record)
    print("\n\n".join(f"{heading}\n\n{text}" for heading, text in sections.items()))
    if arguments.markdown:
        replace_sections(arguments.markdown, IDEAS, sections)


if __name__ == "__main__":
    main()
