"""Several processes that train together do what one does whose minibatch holds all their cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.errors import CheckpointError, InputError
from small_models import make_cells, make_model, register

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata"),
]
HERE = Path(__file__).parent
SEVERAL = 2
STEP_SIZE = 10  # 51 training cells: one is left over, and a process gets none


def start(out: Path, n_processes: int, task: str = "whole") -> subprocess.CompletedProcess[str]:
    """Run the script; with several processes Lightning starts the others."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "two_processes.py"), str(out), str(n_processes)]
    return subprocess.run(
        [*command, str(STEP_SIZE // n_processes), task],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def result(out: Path, n_processes: int, rank: int, task: str = "whole") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{task}{n_processes}-{rank}.json").read_text())
    return found


def assert_same_history(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert len(one) == len(other) == 3
    for row, same in zip(one, other, strict=True):
        assert row.keys() == same.keys()
        for name in row:
            assert row[name] == pytest.approx(same[name], rel=1e-4, abs=1e-5), name


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("outcome")
    for n_processes in (1, SEVERAL):
        done = start(out, n_processes)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("3/3") >= 1
    return out


def test_the_loss_curve_is_that_of_one_process_with_all_the_cells(outcome: Path) -> None:
    alone = result(outcome, 1, 0)
    for rank in range(SEVERAL):
        together = result(outcome, SEVERAL, rank)
        assert_same_history(together["history"], alone["history"])
        np.testing.assert_allclose(together["latent"], alone["latent"], rtol=1e-3, atol=1e-4)


def test_each_process_reads_only_its_share(outcome: Path) -> None:
    each = [result(outcome, SEVERAL, rank)["cells"] for rank in range(SEVERAL)]
    training = [[step for step in steps if all(cell % 10 for cell in step)] for steps in each]
    first_pass = [{cell for step in steps[:5] for cell in step} for steps in training]
    assert [len(cells) for cells in first_pass] == [25, 25]
    assert not first_pass[0] & first_pass[1]
    passed = sorted(cell for steps in training for step in steps for cell in step)
    assert passed == sorted(3 * [cell for cell in range(57) if cell % 10])
    held_out = sorted(cell for steps in each for step in steps for cell in step if cell % 10 == 0)
    assert held_out == sorted(3 * list(range(0, 57, 10)))


def test_only_the_first_process_writes_and_speaks(outcome: Path) -> None:
    cells = register(make_cells(n_cells=57, n_features=6, lacking={"atac": range(40)}), batch_key="batch")
    model = MultiVAE.load(outcome / "model-whole2", cells)
    np.testing.assert_allclose(
        model.get_latent_representation(), result(outcome, SEVERAL, 0)["latent"], rtol=1e-5, atol=1e-6
    )


def test_several_processes_resume_what_they_began(tmp_path: Path, outcome: Path) -> None:
    assert start(tmp_path, SEVERAL, "cut").returncode != 0
    assert not list(tmp_path.glob("cut*.json"))
    done = start(tmp_path, SEVERAL, "resume")
    assert done.returncode == 0, done.stderr
    resumed, whole = result(tmp_path, SEVERAL, 0, "resume"), result(outcome, SEVERAL, 0)
    assert resumed["history"] == whole["history"]
    np.testing.assert_array_equal(resumed["latent"], whole["latent"])


def test_another_number_of_processes_cannot_go_on(outcome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = register(make_cells(n_cells=57, n_features=6, lacking={"atac": range(40)}), batch_key="batch")
    # As if there were one device only, whatever the run was begun with.
    from multiomics_vae.training import fit as fit_module
    from multiomics_vae.training.config import TrainingConfig

    make = fit_module.make_trainer
    monkeypatch.setattr(fit_module, "make_trainer", lambda config, calls: make(TrainingConfig(), calls))
    with pytest.raises(CheckpointError, match="begun by 2 processes and cannot go on with 1"):
        MultiVAE.resume(outcome / "state2", cells)


@pytest.mark.parametrize("num_nodes", [0, 1.5])
def test_numbers_of_machines_that_make_no_sense(num_nodes: Any) -> None:
    with pytest.raises(InputError, match="num_nodes must be a whole number of at least 1"):
        make_model().train(1, num_nodes=num_nodes)
