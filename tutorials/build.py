"""Turn a tutorial's script into a notebook, run it, and write it with its outputs.

A script NAME.py holds cells between ``# %%`` lines; those marked ``# %% [markdown]`` are text in comments.

    python tutorials/build.py digits
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
MOST_SECONDS = 1_200


def cells_of(script: str) -> list[nbformat.NotebookNode]:
    """The cells of a script; what stands before the first mark is left out."""
    cells = []
    for number, chunk in enumerate(f"\n{script}".split("\n# %%")[1:]):
        mark, _, body = chunk.partition("\n")
        if mark.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(body.strip())
        cell["id"] = f"cell-{number}"  # ids are random otherwise, and every build would differ
        cells.append(cell)
    return cells


def build(name: str) -> Path:
    """Make and run the notebook of ``NAME.py``."""
    notebook = nbformat.v4.new_notebook(cells=cells_of((HERE / f"{name}.py").read_text(encoding="utf-8")))
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    os.environ.pop("MPLBACKEND", None)  # a backend without windows would keep figures out of the notebook
    NotebookClient(notebook, timeout=MOST_SECONDS, resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    path = HERE / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def main() -> None:
    """Build the notebooks that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", help="of scripts beside this one, without .py")
    for name in parser.parse_args().names:
        path = build(name)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
