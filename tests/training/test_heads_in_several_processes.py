"""Heads that several processes train together: the same as one would, and the same in all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
STEP_SIZE = 10


def run(out: Path, n_processes: int, level: str) -> list[dict[str, Any]]:
    """What each process found."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(HERE / "heads_in_processes.py"), str(out), str(n_processes)]
    done = subprocess.run(
        [*command, str(STEP_SIZE // n_processes), level],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        json.loads((out / f"{level}{n_processes}-{rank}.json").read_text()) for rank in range(n_processes)
    ]


def test_heads_of_cells_are_those_of_one_process(tmp_path: Path) -> None:
    (alone,) = run(tmp_path, 1, "cell")
    for together in run(tmp_path, 2, "cell"):
        for row, same in zip(together["history"], alone["history"], strict=True):
            for name in row:
                assert row[name] == pytest.approx(same[name], rel=1e-4, abs=1e-5), name
        for name, scores in alone["predicted"].items():
            np.testing.assert_allclose(together["predicted"][name], scores, rtol=1e-3, atol=1e-4)


def test_heads_of_donors_are_the_same_in_every_process(tmp_path: Path) -> None:
    first, second = run(tmp_path, 2, "donor")
    assert first == second
    assert len(first["history"]) == 3
    costs = [row["head_response_train"] for row in first["history"]]
    assert np.isfinite(costs).all()
