"""Text of RESULTS.md between markers, so that each script rewrites its own part and no other."""

from __future__ import annotations

import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def write_between_markers(name: str, text: str, path: Path = RESULTS) -> None:
    """Replace what stands between ``<!-- name: begin -->`` and its end; missing markers are added last."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    content = path.read_text() if path.exists() else "# Results\n"
    if (begin in content) != (end in content):
        raise ValueError(f"{path} holds only one of the markers {begin} and {end}: add or remove the other.")
    if begin not in content:
        content = f"{content.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = content.split(begin, 1)
    path.write_text(f"{before}{begin}\n{text.rstrip()}\n{end}{rest.split(end, 1)[1]}")


def command_line() -> str:
    """The command that is running, as a person would type it in the repository's root."""
    root = f"{Path(__file__).resolve().parents[1]}/"
    arguments = (argument.removeprefix(root) for argument in sys.argv[1:])
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments])
