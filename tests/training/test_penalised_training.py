"""Penalties in a training: asked for by name, in the history, resumed, and with parameters of their own."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import mudata
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from multiomics_vae import MultiVAE
from multiomics_vae.errors import CheckpointError, InputError
from multiomics_vae.penalties import PENALTIES, Penalty, PenaltyInput, PenaltyValue
from multiomics_vae.training import manifest
from multiomics_vae.training.checkpoint import load_checkpoint, save_checkpoint
from multiomics_vae.training.plan import TrainingPlan
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CHOICES: dict[str, Any] = {"batch_size": 16, "progress": False, "accelerator": "cpu", "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(n_cells=44, n_features=6, lacking={"atac": range(6)}), batch_key="batch")


class Learned(Penalty):
    """Distance of z from a learned place: has a parameter and draws noise."""

    name: ClassVar[str] = "learned"
    compares_cells: ClassVar[bool] = False

    def __init__(self, n_latent: int, n_modalities: int, n_batches: int) -> None:
        super().__init__(n_latent, n_modalities, n_batches)
        self.place = nn.Parameter(torch.randn(n_latent, n_batches))

    def forward(self, found: PenaltyInput) -> PenaltyValue:
        target = self.place.T[found.covariates.batch] + 0.1 * found.noise.uniform(1)  # (B, K)
        n = torch.tensor(len(target))
        return PenaltyValue((found.z - target).square().sum(-1).mean(), n)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PENALTIES._classes, "learned", Learned)


class Plans(Callback):
    """Keeps the plan, and ends a training without warning before some step."""

    def __init__(self, cut: int | None = None) -> None:
        self.cut = cut

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        assert isinstance(pl_module, TrainingPlan)
        self.plan = pl_module
        if pl_module.n_steps == self.cut:
            raise KeyError("power cut")


def test_every_penalty_is_in_the_history_by_name(cells: mudata.MuData) -> None:
    model = train(make_model(cells), penalties=dict.fromkeys(PENALTIES, 0.5))
    for name in PENALTIES:
        for which in ("train", "validation"):
            assert np.isfinite(model.history[f"{name}_{which}"]).all()
    assert "info_nce_train" not in train(make_model(cells)).history


def test_none_and_zero_are_the_training_there_was(cells: mudata.MuData) -> None:
    plain = train(make_model(cells))
    zero = train(make_model(cells), penalties={"mmd": 0.0})
    assert plain.history.to_json() == zero.history.to_json()


def test_a_typo_is_told_before_anything_is_trained(cells: mudata.MuData) -> None:
    model = make_model(cells)
    with pytest.raises(InputError, match=r"no penalty called 'mdm'\. Did you mean 'mmd'"):
        train(model, penalties={"mdm": 1.0})
    assert not model.is_trained


@pytest.mark.parametrize("fusion", ["gated", "mixture"])
def test_other_rules_one_modality_and_small_minibatches(fusion: str) -> None:
    every = dict.fromkeys(PENALTIES, 1.0)
    alone = register(make_cells({"rna": "nb"}, n_cells=12), {"rna": "nb"})
    model = train(make_model(alone, fusion=fusion), 1, batch_size=5, penalties=every)
    assert np.isfinite(model.get_elbo()).all()
    apart = register(make_cells(n_cells=17, lacking={"atac": range(8), "rna": range(8, 16)}))
    for batch_size in (1, 4):
        model = train(make_model(apart, fusion=fusion), 1, batch_size=batch_size, penalties=every)
        assert np.isfinite(model.get_elbo()).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weight"), [("info_nce", 10.0), ("distance_nce", 10.0), ("triplet", 10.0), ("mmd", 100.0)]
)
def test_what_is_penalised_becomes_less(name: str, weight: float) -> None:
    structured = register(make_cells(n_cells=80, n_features=40))

    def last(weight: float) -> float:
        choices = {"learning_rate": 1e-2, "early_stopping": False, "penalties": {name: weight}}
        model = train(make_model(structured, dropout=0.0, input_dropout=0.0), 12, **choices)
        return float(model.history[f"{name}_train"].iloc[-1])

    assert last(weight) < last(1e-6) - 0.01


def test_parameters_of_a_penalty_learn_and_are_not_saved(
    cells: mudata.MuData, learned: None, tmp_path: Path
) -> None:
    plans = Plans()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = Learned(3, 2, 2).place.detach().clone()
    model = make_model(cells).train(2, callbacks=[plans], penalties={"learned": 1.0}, **CHOICES)
    place = plans.plan.penalties["learned"].place
    assert not torch.equal(place.detach(), start)
    assert place.grad is None  # let go of between steps, as the others are
    assert not any("place" in name for name in model.module.state_dict())
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(
        MultiVAE.load(tmp_path / "model", cells).get_latent_representation(),
        model.get_latent_representation(),
    )


@pytest.mark.parametrize("cut", [3, 5])
def test_row_48_a_training_with_penalties_is_resumed_bit_by_bit(
    cells: mudata.MuData, learned: None, tmp_path: Path, cut: int
) -> None:
    penalties = {**dict.fromkeys(PENALTIES, 0.5), "learned": 1.0}
    kept = {"penalties": penalties, "checkpoint_every": 1, **CHOICES}
    plans = Plans()
    whole = make_model(cells).train(3, checkpoint_folder=tmp_path / "whole", callbacks=[plans], **kept)
    with pytest.raises(KeyError):
        make_model(cells).train(3, checkpoint_folder=tmp_path / "cut", callbacks=[Plans(cut)], **kept)
    again = Plans()
    resumed = MultiVAE.resume(tmp_path / "cut", cells, progress=False, callbacks=[again])
    assert resumed.history.to_json() == whole.history.to_json()
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor)
    assert asdict(again.plan.objective.config) == asdict(plans.plan.objective.config)
    assert torch.equal(again.plan.penalties["learned"].place, plans.plan.penalties["learned"].place)


def test_a_training_of_the_third_format_goes_on_without_penalties(
    cells: mudata.MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(cells).train(2, checkpoint_folder=tmp_path / "new", **CHOICES)
    new = load_checkpoint(tmp_path / "new")
    document = json.loads(json.dumps(new.config))
    assert document["objective"].pop("penalties") == []
    assert document["model"].pop("disagreement_gate") is False
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 3)
        save_checkpoint(tmp_path / "old", replace(new, config=document))
    resumed = MultiVAE.resume(tmp_path / "old", cells, progress=False)
    assert resumed.history.to_json() == model.history.to_json()


@pytest.mark.parametrize(
    ("penalties", "match"),
    [
        ("mmd", "'penalties' must be a list, not str"),
        ([{"name": "mmd"}], r"penalties\[0\] lacks the entry 'weight'"),
        (
            [{"name": "ddm", "weight": 1.0}],
            "a run that cannot be: There is no penalty called 'ddm'",
        ),
        ([{"name": "mmd", "weight": -1.0}], "at least 0, not -1.0"),
    ],
)
def test_a_kept_training_with_impossible_penalties_is_refused(
    cells: mudata.MuData, tmp_path: Path, penalties: Any, match: str
) -> None:
    make_model(cells).train(1, checkpoint_folder=tmp_path / "run", **CHOICES)
    kept = load_checkpoint(tmp_path / "run")
    objective = {**kept.config["objective"], "penalties": penalties}
    save_checkpoint(tmp_path / "bad", replace(kept, config={**kept.config, "objective": objective}))
    with pytest.raises(CheckpointError, match=match):
        MultiVAE.resume(tmp_path / "bad", cells, progress=False)


def test_a_kept_training_without_the_parameters_of_its_penalty_is_refused(
    cells: mudata.MuData, learned: None, tmp_path: Path
) -> None:
    make_model(cells).train(1, checkpoint_folder=tmp_path / "run", penalties={"learned": 1.0}, **CHOICES)
    kept = load_checkpoint(tmp_path / "run")
    tensors = {name: t for name, t in kept.tensors.items() if not name.startswith("penalties/")}
    save_checkpoint(tmp_path / "bad", replace(kept, tensors=tensors))
    with pytest.raises(CheckpointError, match=r"'learned\.place': missing"):
        MultiVAE.resume(tmp_path / "bad", cells, progress=False)
