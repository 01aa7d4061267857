"""Heads in a training: whole donors held out, resumed bit by bit, saved, and lifted from older formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from multiomics_vae import Head, MultiVAE
from multiomics_vae.data import loader
from multiomics_vae.errors import InputError, MultiomicsWarning
from multiomics_vae.training import manifest
from multiomics_vae.training.checkpoint import load_checkpoint, save_checkpoint
from multiomics_vae.training.run import donors_on_both_sides, split_donors
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CHOICES: dict[str, Any] = {"batch_size": 16, "progress": False, "accelerator": "cpu", "learning_rate": 1e-2}
HEADS = {
    "response": Head(level="donor", cells_per_donor=4),
    "stage": Head(level="donor", pooling="mean"),
    "years": Head(n_hidden=6),
    "os": Head(level="donor", kind="cox"),
    "type": Head(class_weights="balanced"),
}


def make_cohort(n_cells: int = 72, n_donors: int = 9, seed: int = 0) -> mudata.MuData:
    """Cells of donors with an outcome of every kind; some labels are missing."""
    mdata = make_cells(n_cells=n_cells, n_features=6, seed=seed)
    position = np.array([int(name[1:]) for name in mdata.obs_names])
    donor = position % n_donors
    mdata.obs["donor"] = [f"p{i}" for i in donor]
    mdata.obs["response"] = [["no", "yes", None][i % 3] for i in donor]
    mdata.obs["stage"] = pd.Categorical(
        [["I", "II", "III"][i % 3] for i in donor], categories=["I", "II", "III"], ordered=True
    )
    mdata.obs["days"] = 10.0 + 7.0 * donor
    mdata.obs["dead"] = (donor % 2).astype(float)
    mdata.obs["years"] = np.where(position % 5 == 0, np.nan, 1.0 * position)
    mdata.obs["type"] = [["B", "T", "unknown"][i % 7 % 3] for i in position]
    return mdata


def set_up(mdata: mudata.MuData, **options: Any) -> mudata.MuData:
    outcomes = {
        "response": "binary",
        "stage": "ordinal",
        "os": ("days", "dead"),
        "years": "continuous",
        "type": "categorical",
    }
    return register(mdata, donor_key="donor", outcomes=outcomes, **options)


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return set_up(make_cohort())


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.0, 0.1, 0.5, 0.9])
def test_a_split_of_donors_tears_none(size: float) -> None:
    donor = np.repeat([0, 1, 2, 3, -1], [9, 1, 5, 5, 20])
    training, validation = split_donors(donor, size, seed=0)
    assert sorted([*training, *validation]) == list(range(40))
    assert len(donors_on_both_sides(donor, training, validation)) == 0
    held_out = len(np.unique(donor[validation][donor[validation] >= 0]))
    assert held_out == (0 if size == 0 else min(max(1, round(size * 4)), 3))
    assert (donor[validation] == -1).sum() == round(20 * size)


def test_whole_donors_are_held_out_as_soon_as_an_outcome_is_theirs(cells: mudata.MuData) -> None:
    donor = cells.obs["donor"].to_numpy()
    for heads in (HEADS, {"response": Head(level="cell")}, {}):
        model = train(make_model(cells, heads=heads), 1, validation_size=0.3)
        held_out = set(donor[model.validation_indices])
        assert len(held_out) == 3
        assert not held_out & set(donor[model.train_indices])


def test_cells_are_held_out_where_no_outcome_is_of_donors() -> None:
    mdata = register(make_cohort(), donor_key="donor", outcomes={"type": "categorical"})
    model = train(make_model(mdata, heads={"type": Head()}), 1, validation_size=0.3)
    donor = mdata.obs["donor"].to_numpy()
    assert set(donor[model.validation_indices]) & set(donor[model.train_indices])


def test_tearing_donors_apart_must_be_said(cells: mudata.MuData) -> None:
    model = make_model(cells, heads={"response": Head(level="donor")})
    with pytest.raises(InputError, match=r"trained on and held out.*'response', 'stage'.*allow_leakage=True"):
        train(model, 1, validation_indices=[0, 1])
    assert not model.is_trained
    with pytest.warns(MultiomicsWarning, match="will be too good"):
        train(model, 1, validation_indices=[0, 1], allow_leakage=True)
    assert model.validation_indices.tolist() == [0, 1]
    whole = (cells.obs["donor"] == "p1").to_numpy()
    train(model, 1, validation_indices=whole)
    assert len(model.validation_indices) == whole.sum()
    with pytest.warns(MultiomicsWarning, match="recognising the donor"):
        train(model, 1, validation_size=0.2, allow_leakage=True)


# --- training -------------------------------------------------------------------------------------


def test_every_head_is_in_the_history_and_learns() -> None:
    mdata = make_cohort(n_cells=120, n_donors=12)
    counts = mdata["rna"].X.toarray()
    share = counts[:, 0] / counts.sum(1)
    mdata.obs["type"] = np.where(share > np.median(share), "many", "few")
    heads = {**HEADS, "type": Head(weight=30.0)}
    model = train(make_model(set_up(mdata), heads=heads), 60, learning_rate=2e-2)
    for name in HEADS:
        assert np.isfinite(model.history[f"head_{name}_train"]).all()
    costs = model.history["head_type_train"]
    assert costs.iloc[-1] < 0.6 * costs.iloc[0]
    table = model.predict("type").table
    assert (table["prediction"] == mdata.obs["type"]).mean() > 0.8


def test_bags_stay_together_in_a_training(cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    make = loader.make_minibatch

    def watched(data: Any, positions: np.ndarray, part: Any = None) -> Any:
        if part is not None:
            seen.append(np.bincount(data.donor[positions]).tolist())
        return make(data, positions, part)

    monkeypatch.setattr(loader, "make_minibatch", watched)
    train(
        make_model(cells, heads={"response": Head(level="donor", cells_per_donor=None)}), 1, validation_size=0
    )
    assert all(set(counts) <= {0, 8} for counts in seen)
    assert len(seen) == 5  # 72 cells in steps of about 16


def test_labels_that_are_missing_from_the_held_out_are_nan_in_the_history() -> None:
    mdata = make_cohort()
    mdata.obs.loc[mdata.obs["donor"] == "p0", ["response", "type"]] = None
    model = make_model(set_up(mdata), heads={"response": Head(level="donor"), "type": Head()})
    train(model, 1, validation_indices=(mdata.obs["donor"] == "p0").to_numpy())
    assert np.isnan(model.history["head_response_validation"]).all()
    assert np.isnan(model.history["head_type_validation"]).all()


def test_a_batch_without_training_cells_reads_as_the_average_of_the_others() -> None:
    mdata = set_up(make_cohort(), batch_key="donor")
    model = train(make_model(mdata, heads={"response": Head(level="donor")}), 2)
    donor = mdata.obs["donor"].to_numpy()
    trained = set(donor[model.train_indices])
    names = model.schema.batch.categories
    assert model.module.covariates.learned.tolist() == [name in trained for name in names]
    held_out = mdata[model.validation_indices].copy()
    known = model.get_latent_representation(indices=model.validation_indices)
    held_out.obs["donor"] = "somebody new"
    with pytest.warns(MultiomicsWarning, match="average of the batches"):
        anonymous = model.predict_scores("response", held_out, n_samples=0)
    same = model.predict_scores("response", indices=model.validation_indices, n_samples=0)
    torch.testing.assert_close(anonymous.at_mean[0], same.at_mean.mean(0), atol=1e-5, rtol=1e-4)
    assert np.isfinite(known).all()


class PowerCut(Callback):
    """Ends a training without warning before some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if pl_module.n_steps == self.step:
            raise KeyError("power cut")


@pytest.mark.parametrize("every", [None, 1])
def test_a_training_with_heads_goes_on_bit_by_bit(
    cells: mudata.MuData, tmp_path: Path, every: int | None
) -> None:
    whole = make_model(cells, heads=HEADS).train(4, checkpoint_folder=tmp_path / "whole", **CHOICES)
    cut = make_model(cells, heads=HEADS)
    with pytest.raises(KeyError, match="power cut"):
        cut.train(
            4,
            checkpoint_folder=tmp_path / "cut",
            checkpoint_every=every,
            callbacks=[PowerCut(7)],
            **CHOICES,
        )
    resumed = MultiVAE.resume(tmp_path / "cut", cells, progress=False)
    assert resumed.history.to_json() == whole.history.to_json()
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[name]), name
    assert resumed.config == whole.config


def test_a_second_training_and_a_copy_keep_the_heads(cells: mudata.MuData) -> None:
    import copy

    model = train(make_model(cells, heads=HEADS))
    twin = copy.deepcopy(model)
    before = model.predict("os").table
    train(twin)
    pd.testing.assert_frame_equal(model.predict("os").table, before)
    assert not twin.predict("os").table.equals(before)


# --- on disk --------------------------------------------------------------------------------------


def test_saved_and_loaded_heads_say_the_same(cells: mudata.MuData, tmp_path: Path) -> None:
    model = train(make_model(cells, heads=HEADS))
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", cells)
    assert loaded.config == model.config
    assert loaded.schema == model.schema
    for name in HEADS:
        pd.testing.assert_frame_equal(loaded.predict(name).table, model.predict(name).table)
    one, other = (each.predict("os").survival_at([0, 15, 40]) for each in (loaded, model))
    pd.testing.assert_frame_equal(one, other)
    assert "p3" not in (tmp_path / "model" / "schema.json").read_text()


def test_a_model_of_format_4_is_one_without_heads(tmp_path: Path) -> None:
    mdata = register(make_cells(), batch_key="batch")
    model = train(make_model(mdata))
    model.save(tmp_path / "new")
    new = load_checkpoint(tmp_path / "new")
    old_schema = {
        key: value for key, value in new.schema.items() if key not in ("donor_key", "outcomes", "unlabelled")
    }
    old = type(new)(
        new.class_name,
        {key: value for key, value in new.config.items() if key != "heads"},
        {**old_schema, "version": 1},
        new.history,
        {name: tensor for name, tensor in new.tensors.items() if name != "covariates.learned"},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 4)
        save_checkpoint(tmp_path / "old", old)
    loaded = MultiVAE.load(tmp_path / "old", mdata)
    assert loaded.config == model.config
    assert loaded.schema == model.schema
    assert loaded.module.covariates.learned.tolist() == [True, True]
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(heads={}), r"'heads' must be a list"),
        (lambda c: c["heads"].append(3), r"heads\[5\] must be an object"),
        (lambda c: c["heads"][0]["head"].update(pooling="max"), r"heads\[0\]\.head\.pooling"),
        (lambda c: c["heads"][0]["head"].update(weight=-1.0), r"weight must be a number"),
        (lambda c: c["heads"][0].update(outcome="nothing"), r"no outcome 'nothing'"),
        (lambda c: c["heads"][0]["head"].update(kind="binary"), r"cannot predict"),
        (lambda c: c["heads"][0]["head"].update(extra=1), r"unknown entry 'extra'"),
    ],
)
def test_configurations_that_describe_no_heads(
    cells: mudata.MuData, tmp_path: Path, change: Any, match: str
) -> None:
    from multiomics_vae.errors import CheckpointError
    from multiomics_vae.training.saved import module_from

    model = train(make_model(cells, heads=HEADS), 1)
    model.save(tmp_path / "model")
    found = load_checkpoint(tmp_path / "model")
    change(found.config)
    with pytest.raises(CheckpointError, match=match):
        module_from(tmp_path, found.config, model.schema, found.tensors)
