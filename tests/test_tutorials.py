"""Notebooks are what their scripts make, small, without errors, and still run."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
MOST_BYTES = 1_000_000


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorials_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_notebooks() -> None:
    assert "digits" in NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_was_run_in_order_and_is_small(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if (FOLDER / f"{name}.py").exists()])
def test_a_notebook_is_what_its_script_makes(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    made = builder().cells_of((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in made
    ]


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_still_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    NotebookClient(notebook, timeout=1_000, resources={"metadata": {"path": str(FOLDER)}}).execute()
