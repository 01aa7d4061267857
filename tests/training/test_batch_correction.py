"""Batch correction as users ask for it: what is added, what is refused, what is kept, and what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pytest
from anndata import AnnData
from lightning.pytorch import Callback, LightningModule, Trainer

from multiomics_vae import BatchCorrection, MultiVAE
from multiomics_vae.data.strata import strata_of
from multiomics_vae.errors import InputError, MultiomicsWarning
from multiomics_vae.penalties.correction import KINDS, PENALTY_OF, nuisances, settled
from multiomics_vae.training import manifest
from multiomics_vae.training.checkpoint import load_checkpoint, save_checkpoint
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CHOICES: dict[str, Any] = {"batch_size": 16, "progress": False, "accelerator": "cpu", "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    mdata = make_cells(n_cells=44, n_features=6, lacking={"atac": range(6)})
    mdata.obs["type"] = ["T", "B", "unknown", None] * 11
    return register(mdata, batch_key="batch", categorical_covariate_keys=["donor"])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_adds_its_penalty_and_nothing_else(cells: mudata.MuData, kind: str) -> None:
    model = train(make_model(cells, batch_correction=kind))
    added = {name for name in PENALTY_OF.values() if f"{name}_train" in model.history}
    assert added == ({PENALTY_OF[kind]} if kind != "conditional" else set())
    assert np.isfinite(model.get_latent_representation()).all()
    assert ("batch correction" in model.summary()) == (kind != "conditional")


def test_conditional_is_what_there_was(cells: mudata.MuData) -> None:
    assert (
        train(make_model(cells, batch_correction="conditional")).history.to_json()
        == train(make_model(cells)).history.to_json()
    )


def test_it_is_about_the_batch_and_every_categorical_covariate(cells: mudata.MuData) -> None:
    model = make_model(cells, batch_correction="adversarial")
    assert model.config.batch_correction.keys == ("batch", "donor")
    found = nuisances(model.config.batch_correction.keys, model.schema)
    assert [(n.column, n.n_categories) for n in found] == [(None, 2), (0, 3)]
    only = make_model(cells, batch_correction=BatchCorrection("hsic", keys=("donor",)))
    assert [n.column for n in nuisances(only.config.batch_correction.keys, only.schema)] == [0]


def test_weights_are_the_correction_s_unless_the_training_names_them(cells: mudata.MuData) -> None:
    model = make_model(cells, batch_correction=BatchCorrection("hsic", weight=3.0))
    heavy = make_model(cells, batch_correction=BatchCorrection("hsic", weight=5000.0))
    light = train(model, penalties={"hsic": 5000.0})
    assert light.history.to_json() == train(heavy).history.to_json()
    off = train(make_model(cells, batch_correction="hsic"), penalties={"hsic": 0.0})
    assert "hsic_train" not in off.history


class Weights(Callback):
    """Weight of a penalty in every step, and an end before some step."""

    def __init__(self, cut: int | None = None) -> None:
        self.cut, self.ramp = cut, []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.ramp.append(pl_module.kl_scale)
        if pl_module.n_steps == self.cut:
            raise KeyError("power cut")


@pytest.mark.parametrize("cut", [2, 5, 8])
@pytest.mark.parametrize("kind", ["adversarial", "hsic", "mmd"])
def test_row_48_the_ramp_is_resumed_bit_by_bit(
    cells: mudata.MuData, tmp_path: Path, kind: str, cut: int
) -> None:
    correction = BatchCorrection(kind, conditional_on="type")
    kept = {"checkpoint_every": 1, "warmup_epochs": 2, **CHOICES}
    seen = Weights()
    whole = make_model(cells, batch_correction=correction)
    whole.train(4, checkpoint_folder=tmp_path / "whole", callbacks=[seen], **kept)
    with pytest.raises(KeyError):
        make_model(cells, batch_correction=correction).train(
            4, checkpoint_folder=tmp_path / "cut", callbacks=[Weights(cut)], **kept
        )
    again = Weights()
    resumed = MultiVAE.resume(tmp_path / "cut", cells, progress=False, callbacks=[again])
    assert 0 < seen.ramp[0] < seen.ramp[1] < seen.ramp[-1] == 1.0
    assert again.ramp == seen.ramp[cut:]
    assert resumed.history.to_json() == whole.history.to_json()
    assert resumed.config.batch_correction == replace(correction, keys=("batch", "donor"))
    for name, tensor in whole.module.state_dict().items():
        assert np.array_equal(resumed.module.state_dict()[name].numpy(), tensor.numpy())


def test_weights_from_before_the_whole_penalty_are_not_kept(cells: mudata.MuData) -> None:
    """However good the held-out ELBO of a pass of the ramp: the weights kept are of a later one."""

    class Best(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.epoch = pl_module.best_epoch

    best = Best()
    model = make_model(cells, batch_correction=BatchCorrection("adversarial", weight=1e4))
    model.train(6, warmup_epochs=4, callbacks=[best], **CHOICES)
    assert best.epoch >= 4


def test_a_saved_model_says_how_it_was_corrected(cells: mudata.MuData, tmp_path: Path) -> None:
    correction = BatchCorrection("hsic", 2.0, ("batch",), "type")
    model = train(make_model(cells, batch_correction=correction))
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", cells)
    assert loaded.config.batch_correction == correction
    without = cells.copy()
    del without.obs["type"]
    bare = MultiVAE.load(tmp_path / "model", without)
    assert np.isfinite(bare.get_latent_representation()).all()
    with pytest.raises(InputError, match=r"conditional on 'type', and obs has no such column"):
        train(bare)


def test_a_model_of_the_fifth_format_was_conditional(
    cells: mudata.MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train(make_model(cells))
    model.save(tmp_path / "new")
    new = load_checkpoint(tmp_path / "new")
    config = {name: value for name, value in new.config.items() if name != "batch_correction"}
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 5)
        save_checkpoint(tmp_path / "old", replace(new, config=config))
    loaded = MultiVAE.load(tmp_path / "old", cells)
    assert loaded.config.batch_correction == BatchCorrection()


@pytest.mark.parametrize(
    ("correction", "match"),
    [
        ("advesarial", r"no batch_correction='advesarial'. Did you mean 'adversarial'"),
        (lambda: BatchCorrection("hsic", weight=-1.0), "at least 0, not -1.0"),
        (lambda: BatchCorrection("hsic", weight=float("nan")), "at least 0, not nan"),
        (lambda: BatchCorrection("mmd", keys="donor"), r"a tuple of columns, not 'donor'"),  # type: ignore[arg-type]
        (lambda: BatchCorrection(weight=1.0), "adds no penalty, so it has no weight"),
        (lambda: BatchCorrection("mmd", keys=("donr",)), "names 'donr'.*'donor'"),
        (lambda: BatchCorrection("mmd", conditional_on="tpye"), "no column 'tpye'.*'type'"),
    ],
)
def test_what_cannot_be_is_refused(cells: mudata.MuData, correction: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make_model(cells, batch_correction=correction() if callable(correction) else correction)


def test_a_correction_without_batches_is_refused_and_of_one_batch_is_told() -> None:
    mdata = register(make_cells())
    with pytest.raises(InputError, match=r"none are registered: .*batch_key='batch'"):
        make_model(mdata, batch_correction="mmd")
    mdata.obs["one"] = "a"
    register(mdata, batch_key="one")
    with pytest.warns(MultiomicsWarning, match="'one' has one category"):
        model = make_model(mdata, batch_correction="mmd")
    assert model.config.batch_correction == BatchCorrection()
    assert settled("conditional", model.schema) == BatchCorrection()


def test_strata_are_codes_and_unknown_ones_minus_one(cells: mudata.MuData) -> None:
    assert strata_of(cells, "type")[:4].tolist() == [1, 0, -1, -1]


def shifted_by_type(n_cells: int, seed: int) -> mudata.MuData:
    """Two batches whose shift goes one way in the first type and the other way in the second.

    A decoder that adds a shift for each batch cannot explain it.
    """
    rng = np.random.default_rng(seed)
    kind, batch = rng.integers(2, size=n_cells), rng.integers(2, size=n_cells)
    away = 0.9 * (2 * kind - 1) * (2 * batch - 1)  # (N,)
    parts = {}
    for name in ("rna", "protein"):
        values = np.outer(2.0 * kind - 1.0, rng.normal(size=20)) + rng.normal(size=(n_cells, 20))
        values += np.outer(away, rng.normal(size=20) * (np.arange(20) < 10))
        parts[name] = AnnData(values.astype(np.float32))
        parts[name].obs_names = [f"c{i}" for i in range(n_cells)]
        parts[name].var_names = [f"{name}:{i}" for i in range(20)]
    mdata = mudata.MuData(parts)
    mdata.obs["batch"], mdata.obs["type"] = np.array(["a", "b"])[batch], np.array(["x", "y"])[kind]
    return mdata


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "weight"), [("hsic", 2000.0), ("mmd", 200.0)])
def test_what_the_decoder_cannot_explain_is_removed_and_types_stay(kind: str, weight: float) -> None:
    """A classifier on z reads the batch of an uncorrected model, much less of a corrected one."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    mdata = shifted_by_type(500, seed=0)
    scores = {}
    for which in ("conditional", BatchCorrection(kind, weight)):
        MultiVAE.setup_mudata(mdata, likelihoods=dict.fromkeys(mdata.mod, "gaussian"), batch_key="batch")
        model = MultiVAE(
            mdata, n_latent=4, n_hidden=32, decoders="linear", batch_correction=which, encode_covariates=False
        )
        model.train(60, progress=False)
        Z, forest = model.get_latent_representation(), RandomForestClassifier(50, random_state=0)
        scores[which if isinstance(which, str) else which.kind] = [
            cross_val_score(forest, Z, mdata.obs[column], cv=3).mean() for column in ("batch", "type")
        ]
    assert scores["conditional"][0] > 0.7, scores
    assert scores[kind][0] < scores["conditional"][0] - 0.15, scores
    assert scores[kind][1] > 0.95, scores
