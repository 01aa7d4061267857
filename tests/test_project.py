"""Rules that hold for the whole project."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "scvi", "scanpy", "lightning", "matplotlib", "mudata")
MOST_LINES = 400
PICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def python_files(*folders: str) -> dict[str, str]:
    """Text of every Python file of some folders, by path."""
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "statement", ["import multiomics_vae", "from multiomics_vae import datasets, errors"]
)
def test_import_loads_nothing_heavy(statement: str) -> None:
    assert run_python(f"{statement}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])") == "[]"


def test_public_names_are_listed_and_typos_are_errors() -> None:
    code = "import multiomics_vae as m; print(set(m.__all__) <= set(dir(m)), hasattr(m, 'MultiVEA'))"
    assert run_python(code) == "True False"


def test_no_file_is_too_long() -> None:
    files = python_files("src", "tests", "benchmarks", "data")
    assert {"src/multiomics_vae/errors.py", "tests/test_project.py"} <= set(files)
    lengths = {path: len(text.splitlines()) for path, text in files.items()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_imports_go_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def pickle_uses(tree: ast.AST) -> Iterator[str]:
    """Every way in which code could read or write a pickle."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {name.name}" for name in node.names if name.name.split(".")[0] in PICKLING)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLING:
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            pickles = called in {"torch.load", "torch.save"} or called.endswith(("read_pickle", "to_pickle"))
            allows = any(keyword.arg == "allow_pickle" for keyword in node.keywords)
            if pickles or allows:
                yield ast.unparse(node)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import dump",
        "torch.load('a.pt')",
        "torch.save(x, 'a.pt')",
        "np.load('a.npz', allow_pickle=True)",
        "frame.to_pickle('a')",
    ],
)
def test_pickle_uses_are_seen(code: str) -> None:
    assert list(pickle_uses(ast.parse(code)))


def test_no_pickle_is_read_or_written() -> None:
    found = {path: list(pickle_uses(ast.parse(text))) for path, text in python_files("src").items()}
    assert {path: uses for path, uses in found.items() if uses} == {}
