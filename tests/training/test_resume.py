"""Going on with a training that was stopped gives, bit by bit, the training that was never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from multiomics_vae import MultiVAE
from multiomics_vae.errors import CheckpointError, InputError
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.resumable import UnfinishedTraining
from multiomics_vae.training.state import TrainingState
from small_models import make_cells, make_model, register

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
STEPS = 4  # a pass: 60 cells in minibatches of 16
CHOICES: dict[str, Any] = {
    "batch_size": 16,
    "validation_size": 6 / 66,
    "progress": False,
    "learning_rate": 2e-2,
}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(n_cells=66, n_features=6, lacking={"atac": range(9)}), batch_key="batch")


class PowerCut(RuntimeError):
    pass


class CutAt(Callback):
    """Ends a training without warning before some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        assert isinstance(pl_module, TrainingPlan)
        if pl_module.n_steps == self.step:
            raise PowerCut


class LastStates:
    """Remembers the last state that was kept of any training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.last: TrainingState | None = None
        write = UnfinishedTraining.write

        def remember(training: UnfinishedTraining, folder: Any, name: str, state: TrainingState) -> None:
            self.last = state
            write(training, folder, name, state)

        monkeypatch.setattr(UnfinishedTraining, "write", remember)

    def take(self) -> TrainingState:
        assert self.last is not None
        return self.last


def assert_same_states(one: TrainingState, other: TrainingState) -> None:
    assert one.progress == other.progress
    assert one.pass_start == other.pass_start
    assert one.history == other.history
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    rooms = {name.partition("/")[0] for name in one.tensors}
    assert {"weights", "average", "best", "optimizer", "noise", "dropout"} <= rooms


@pytest.mark.parametrize(
    ("cut", "every"),
    [
        pytest.param(2 * STEPS, None, id="at the end of a pass"),
        pytest.param(2 * STEPS + 3, None, id="within a pass, kept at its start"),
        pytest.param(2 * STEPS + 3, 1, id="within a pass"),
        pytest.param(3, 2, id="in the first pass"),
        pytest.param(6 * STEPS - 1, 3, id="in the last pass"),
    ],
)
@pytest.mark.parametrize("choices", [{}, {"modality_weights": "adaptive", "modality_dropout": 0.3}])
def test_row_48_a_resumed_training_is_the_uninterrupted_one(
    cells: mudata.MuData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
    every: int | None,
    choices: dict[str, Any],
) -> None:
    states = LastStates(monkeypatch)
    kept = {"checkpoint_every": every, **choices, **CHOICES}
    whole = make_model(cells).train(6, checkpoint_folder=tmp_path / "whole", **kept)
    expected = states.take()
    with pytest.raises(PowerCut):
        make_model(cells).train(6, checkpoint_folder=tmp_path / "cut", callbacks=[CutAt(cut)], **kept)
    torch.manual_seed(99)  # the user's generator has nothing to do with it
    resumed = MultiVAE.resume(tmp_path / "cut", cells, progress=False)
    assert_same_states(states.take(), expected)
    assert resumed.history.to_json() == whole.history.to_json()
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor)
    latent = whole.get_latent_representation()
    np.testing.assert_array_equal(resumed.get_latent_representation(), latent)
    np.testing.assert_array_equal(resumed.train_indices, whole.train_indices)


def test_row_48_of_a_wide_model(tmp_path: Path) -> None:
    """Wide enough for compiled loops, a walk over matrices, and minibatches made ahead."""
    wide = register(make_cells(n_cells=66, n_features=8200))
    kept = {"checkpoint_every": 3, **CHOICES}
    choices: dict[str, Any] = {"projections": {"rna": 0, "atac": 0}, "decoders": "mlp"}
    whole = make_model(wide, **choices).train(2, checkpoint_folder=tmp_path / "whole", **kept)
    with pytest.raises(PowerCut):
        make_model(wide, **choices).train(2, checkpoint_folder=tmp_path / "cut", callbacks=[CutAt(7)], **kept)
    resumed = MultiVAE.resume(tmp_path / "cut", wide, progress=False)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor)


def test_row_48_with_a_part_of_the_features_a_step(cells: mudata.MuData, tmp_path: Path) -> None:
    """Rows that were not drawn make up for the steps they missed before a state is kept."""
    kept = {"checkpoint_every": 3, "n_features_per_step": 4, **CHOICES}
    whole = make_model(cells, decoders="mlp").train(4, checkpoint_folder=tmp_path / "whole", **kept)
    model = make_model(cells, decoders="mlp")
    with pytest.raises(PowerCut):
        model.train(4, checkpoint_folder=tmp_path / "cut", callbacks=[CutAt(10)], **kept)
    resumed = MultiVAE.resume(tmp_path / "cut", cells, progress=False)
    assert resumed.history.n_epochs == 4
    for name, tensor in whole.module.state_dict().items():
        torch.testing.assert_close(resumed.module.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def test_keeping_the_state_changes_nothing(cells: mudata.MuData, tmp_path: Path) -> None:
    plain = make_model(cells).train(2, **CHOICES)
    kept = make_model(cells).train(2, checkpoint_folder=tmp_path / "run", checkpoint_every=1, **CHOICES)
    assert plain.history.to_json() == kept.history.to_json()


def test_a_training_that_is_over_is_resumed_at_once(cells: mudata.MuData, tmp_path: Path) -> None:
    model = make_model(cells).train(3, checkpoint_folder=tmp_path / "run", **CHOICES)
    resumed = MultiVAE.resume(tmp_path / "run", cells, progress=False)
    assert resumed.history.to_json() == model.history.to_json()
    latent = model.get_latent_representation()
    np.testing.assert_array_equal(resumed.get_latent_representation(), latent)
    stopped = {**CHOICES, "learning_rate": 1e-12, "patience": 1, "weight_averaging": 0.0}
    model = make_model(cells).train(30, checkpoint_folder=tmp_path / "stopped", **stopped)
    resumed = MultiVAE.resume(tmp_path / "stopped", cells, progress=False)
    assert resumed.history.n_epochs == model.history.n_epochs < 30


def test_a_resumed_training_can_be_stopped_again(cells: mudata.MuData, tmp_path: Path) -> None:
    whole = make_model(cells).train(4, **CHOICES)
    folder = tmp_path / "run"
    with pytest.raises(PowerCut):
        make_model(cells).train(
            4, checkpoint_folder=folder, checkpoint_every=1, callbacks=[CutAt(2)], **CHOICES
        )
    for cut in (5, 7, 13):
        with pytest.raises(PowerCut):
            MultiVAE.resume(folder, cells, progress=False, callbacks=[CutAt(cut)])
    resumed = MultiVAE.resume(folder, cells, progress=False)
    assert resumed.history.to_json() == whole.history.to_json()


def test_what_cannot_be_resumed_says_why(cells: mudata.MuData, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    model = make_model(cells).train(1, checkpoint_folder=folder, **CHOICES)
    with pytest.raises(CheckpointError, match=r"run exists already\. To go on .* MultiVAE\.resume\("):
        make_model(cells).train(1, checkpoint_folder=folder, **CHOICES)
    with pytest.raises(CheckpointError, match=r"holds a MultiVAETraining, not a MultiVAE\. Go on .*resume"):
        MultiVAE.load(folder, cells)
    model.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"holds a MultiVAE, not a MultiVAETraining\. Load it with"):
        MultiVAE.resume(tmp_path / "model", cells)
    other = cells[::-1].copy()
    with pytest.raises(CheckpointError, match="begun with other cells, or with the same in another order"):
        MultiVAE.resume(folder, other)
    with pytest.raises(InputError, match="checkpoint_every must be a whole number of at least 1, not 0"):
        make_model(cells).train(1, checkpoint_folder=tmp_path / "new", checkpoint_every=0, **CHOICES)
    assert not (tmp_path / "new").exists()
