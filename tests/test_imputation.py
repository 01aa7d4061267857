"""Imputed and denoised values of a trained model, with their uncertainty."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.errors import InputError, MultiomicsWarning, NotFittedError
from multiomics_vae.likelihoods import LIKELIHOODS
from small_models import fingerprint, make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
FEW = {"n_samples": 20}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    """Cells of which some lack RNA and some lack ATAC; read only."""
    lacking = {"atac": range(6), "rna": range(6, 12)}
    return register(make_cells(n_cells=80, lacking=lacking), batch_key="batch")


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    return train(make_model(cells), 4, learning_rate=1e-2, validation_size=0.3)


def named(first: int, last: int) -> list[str]:
    return [f"c{i}" for i in range(first, last)]


def answers_equal(one: anndata.AnnData, other: anndata.AnnData) -> bool:
    """Same bytes, whatever is said of the cells' status."""
    return (
        one.X.tobytes() == other.X.tobytes()
        and set(one.layers) == set(other.layers)
        and all(one.layers[key].tobytes() == other.layers[key].tobytes() for key in one.layers)
        and one.obs[["latent_sd", "latent_entropy"]].equals(other.obs[["latent_sd", "latent_entropy"]])
    )


def test_an_imputed_modality_is_an_anndata_with_its_uncertainty(
    model: MultiVAE, cells: mudata.MuData
) -> None:
    wanted = ["atac:f7", "atac:f0", "atac:f3"]
    rows = [*named(20, 30), *named(0, 6)]
    found = model.impute("atac", indices=rows, given=["rna"], features=iter(wanted), **FEW)
    assert list(found.obs_names) == rows
    assert list(found.var_names) == wanted
    assert set(found.layers) == {"sd", "q05", "q95"}
    assert ((found.X > 0) & (found.X < 1)).all()
    assert (found.layers["sd"] > 0).all()
    assert set(np.unique(found.layers["q95"])) <= {0.0, 1.0}
    assert list(found.obs["status"]) == ["measured"] * 10 + ["imputed"] * 6
    _, variance = model.get_latent_representation(indices=rows, modalities=["rna"], return_dist=True)
    np.testing.assert_allclose(found.obs["latent_sd"], np.sqrt(variance).mean(1), rtol=1e-4)
    note = found.uns["multivae_prediction"]
    assert note["modality"] == "atac"
    assert list(note["given"]) == ["rna"]
    assert not note["calibrated"]
    assert note["depth"].startswith("drawn, log-normal with standard deviation")
    assert note["depth"].endswith("learned from cells with all that is given")
    # the columns of everything that can be asked for
    whole = model.impute("atac", indices=rows, given=["rna"], **FEW)
    np.testing.assert_allclose(whole[:, wanted].X, found.X, rtol=1e-4)
    np.testing.assert_allclose(whole[:, wanted].layers["sd"], found.layers["sd"], rtol=1e-3)


def test_counts_are_counts_at_the_depth_of_their_kind(model: MultiVAE, cells: mudata.MuData) -> None:
    rows = named(12, 80)
    found = model.impute("rna", indices=rows, n_samples=200)
    counts = cells["rna"][rows].X.toarray()
    assert found.X.sum(1).mean() == pytest.approx(counts.sum(1).mean(), rel=0.15)
    assert (found.layers["q95"] == np.round(found.layers["q95"])).all()
    assert (found.layers["q05"] <= found.layers["q95"]).all()
    inside = (counts >= found.layers["q05"]) & (counts <= found.layers["q95"])
    assert inside.mean() > 0.85


def test_draws_are_those_behind_the_answer(model: MultiVAE) -> None:
    rows = named(20, 40)
    draws = model.sample_posterior_predictive("rna", indices=rows, n_samples=400)
    assert draws.shape == (400, 20, 10)
    assert draws.dtype == np.float32
    found = model.impute("rna", indices=rows, n_samples=400, quantiles=(0.25, 0.975))
    assert (np.abs(draws.mean(0) - found.X) < 6 * found.layers["sd"] / 20).all()
    for level, name in ((0.25, "q25"), (0.975, "q97.5")):
        rank = round(level * 401) - 1
        np.testing.assert_array_equal(found.layers[name], np.sort(draws, 0)[rank])
    few = model.sample_posterior_predictive("rna", indices=rows[::-1], n_samples=7, batch_size=3)
    np.testing.assert_array_equal(few[:, ::-1], draws[:7])
    assert not np.array_equal(
        model.sample_posterior_predictive("rna", indices=rows, n_samples=7, seed=1), draws[:7]
    )


def test_nothing_of_the_target_is_read(model: MultiVAE, cells: mudata.MuData) -> None:
    """Other values, more depth, or no measurement at all leave every bit as it was."""
    rows = named(12, 80)
    for target, source in (("atac", "rna"), ("rna", "atac")):
        before = model.impute(target, cells, rows, **FEW)
        changed = cells.copy()
        values = changed[target].X.toarray()
        changed.mod[target].X = np.maximum(values, np.roll(values, 1, axis=1)) * (7 if target == "rna" else 1)
        assert answers_equal(model.impute(target, changed, rows, **FEW), before)
        alone = mudata.MuData({source: cells[source].copy()})
        alone.obs["batch"] = cells.obs.loc[alone.obs_names, "batch"]
        gone = model.impute(target, alone, rows, **FEW)
        assert answers_equal(gone, before)
        assert (gone.obs["status"] == "imputed").all()


def test_denoising_is_of_measured_cells_at_their_depth(model: MultiVAE, cells: mudata.MuData) -> None:
    found = model.denoise("rna", n_samples=200)
    assert list(found.obs_names) == [name for name in cells.obs_names if name in cells["rna"].obs_names]
    assert (found.obs["status"] == "measured").all()
    counts = cells["rna"][found.obs_names].X.toarray()
    np.testing.assert_allclose(found.X.sum(1), counts.sum(1), rtol=1e-3)
    assert found.uns["multivae_prediction"]["depth"] == "each cell's own"
    with pytest.raises(InputError, match=r"6 of 10 cells have no 'rna' to denoise.*indices=mdata\.obs_names"):
        model.denoise("rna", indices=named(6, 16))
    alone = mudata.MuData({"atac": cells["atac"].copy()})
    alone.obs["batch"] = cells.obs.loc[alone.obs_names, "batch"]
    with pytest.raises(InputError, match=r"No cell has 'rna'.*model\.impute\('rna', mdata\)"):
        model.denoise("rna", alone)


def test_missing_modalities_are_filled_up_and_nothing_else_changes(
    model: MultiVAE, cells: mudata.MuData
) -> None:
    before = fingerprint(cells)
    full = model.impute_missing(cells, **FEW)
    assert fingerprint(cells) == before
    assert list(full.obs_names) == list(cells.obs_names)
    assert list(full.obs["donor"]) == list(cells.obs["donor"])
    for name in ("rna", "atac"):
        part = full[name]
        assert list(part.obs_names) == list(cells.obs_names)
        measured = np.asarray(part.obs_names.isin(cells[name].obs_names))
        assert list(part.obs["status"] == "measured") == list(measured)
        own = cells[name][part.obs_names[measured]].X.toarray()
        np.testing.assert_array_equal(part.X[measured], own)
        expected = model.impute(name, cells, ~measured, **FEW)
        np.testing.assert_array_equal(part.X[~measured], expected.X)
        np.testing.assert_array_equal(part.layers["q95"][~measured], expected.layers["q95"])
        assert np.isnan(part.layers["q95"][measured]).all()
        assert np.isnan(part.obs["latent_sd"][measured]).all()
    of_own_cells = model.impute_missing(**FEW)
    np.testing.assert_array_equal(of_own_cells["rna"].X, full["rna"].X)
    some = model.impute_missing(cells, named(20, 25), **FEW)
    assert some.n_obs == 5
    assert not some["rna"].layers


def test_batches_are_decoded_as_asked(model: MultiVAE) -> None:
    rows = named(20, 40)
    by_batch = {b: model.impute("rna", indices=rows, transform_batch=b, n_samples=40) for b in ("b0", "b1")}
    assert np.abs(by_batch["b0"].X - by_batch["b1"].X).max() > 1e-3
    both = model.impute("rna", indices=rows, transform_batch=["b0", "b1"], n_samples=400)
    middle = (by_batch["b0"].X + by_batch["b1"].X) / 2
    np.testing.assert_allclose(both.X, middle, rtol=0.25)
    with pytest.raises(InputError, match=r"n_samples=1 is too few for 2 batches.*n_samples=20"):
        model.impute("rna", indices=rows, transform_batch=["b0", "b1"], n_samples=1)


def test_what_is_written_is_what_is_returned(model: MultiVAE, tmp_path: Path) -> None:
    choices: dict[str, Any] = {"indices": named(20, 40), "features": ["rna:f3", "rna:f1"], **FEW}
    model.write_imputed(tmp_path / "out.h5ad", "rna", batch_size=7, **choices)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    expected = model.impute("rna", batch_size=7, **choices)
    assert answers_equal(found, expected)
    assert found.obs.equals(expected.obs)
    assert list(found.var_names) == list(expected.var_names)
    assert found.uns["multivae_prediction"]["modality"] == "rna"
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]
    with pytest.raises(InputError, match=r"is there already"):
        model.write_imputed(tmp_path / "out.h5ad", "rna", **choices)
    with pytest.raises(InputError, match="given holds 'rna'"):
        model.write_imputed(tmp_path / "other.h5ad", "rna", given=["rna"])
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]


def test_cells_on_disk_are_answered_like_cells_in_memory(
    model: MultiVAE, cells: mudata.MuData, tmp_path: Path
) -> None:
    cells.write_h5mu(tmp_path / "cells.h5mu")
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True)
    rows = named(12, 80)
    assert answers_equal(model.impute("atac", backed, rows, **FEW), model.impute("atac", cells, rows, **FEW))
    full, expected = (model.impute_missing(each, **FEW) for each in (backed, cells))
    for name in ("rna", "atac"):
        np.testing.assert_array_equal(full[name].X, expected[name].X)


def test_calibration_is_kept_saved_and_void_after_training(
    cells: mudata.MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    model = train(make_model(cells), 2, validation_size=0.4)
    rows = named(12, 80)
    plain = model.impute("rna", indices=rows, **FEW)
    with pytest.raises(InputError, match=r"not calibrated for 'rna' given \['atac'\].*model\.calibrate\(\)"):
        model.impute("rna", indices=rows, calibrated=True)
    model.calibrate(**FEW)
    for target, name in (("rna", "denoise"), ("atac", "impute")):
        table = model.interval_coverage(
            target, indices=model.validation_indices, denoising=name == "denoise", **FEW
        )
        assert table.loc[0.9, "calibrated"] == pytest.approx(0.9, abs=0.03)
    mended = model.impute("rna", indices=rows, **FEW)
    assert mended.uns["multivae_prediction"]["calibrated"]
    assert (mended.X == plain.X).all()
    assert answers_equal(model.impute("rna", indices=rows, calibrated=False, **FEW), plain)
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", cells)
    assert answers_equal(loaded.impute("rna", indices=rows, calibrated=True, **FEW), mended)
    with pytest.raises(InputError, match=r"knows of no held-out cells.*model\.calibrate\(other_mdata\)"):
        loaded.calibrate()
    loaded.calibrate(cells, **FEW)
    twin = copy.deepcopy(model)
    assert answers_equal(twin.impute("rna", indices=rows, **FEW), mended)
    train(twin, 1)
    assert not twin.impute("rna", indices=rows, **FEW).uns["multivae_prediction"]["calibrated"]


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_every_likelihood_is_imputed_denoised_and_filled_up(likelihood: str) -> None:
    kinds = {"rna": "nb", "other": likelihood}
    cells = register(make_cells(kinds, lacking={"other": range(6)}, missing_entries=True), kinds)
    model = train(make_model(cells), 1, validation_size=0.3)
    model.calibrate(**FEW)
    for found in (model.impute("other", **FEW), model.denoise("other", **FEW)):
        assert np.isfinite(found.X).all()
        assert set(found.layers) == ({"probability"} if likelihood == "categorical" else {"sd", "q05", "q95"})
        for layer in found.layers.values():
            assert np.isfinite(layer).all()
    table = model.interval_coverage("other", given=["rna"], **FEW)
    assert table["n"].iloc[0] > 200
    full = model.impute_missing(cells, **FEW)
    assert full["other"].n_obs == cells.n_obs


def test_a_batch_that_never_showed_a_modality_is_warned_of() -> None:
    cells = make_cells(lacking={"atac": range(1, 40, 2)})
    model = train(make_model(register(cells, batch_key="batch")), 1)
    for ask in (lambda: model.impute("atac", **FEW), lambda: model.impute_missing(cells, **FEW)):
        with pytest.warns(UserWarning, match=r"'b1'.*transform_batch=\['b0'\]"):
            ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error", MultiomicsWarning)
        model.impute("atac", transform_batch="b0", **FEW)


def test_coverage_of_cells_that_have_nothing_to_compare_is_refused(model: MultiVAE) -> None:
    with pytest.raises(InputError, match=r"None of the 6 cells has 'rna'.*indices=mdata\['rna'\]\.obs_names"):
        model.interval_coverage("rna", indices=named(6, 12))
    with pytest.warns(UserWarning, match="calibrated on 2 held-out cells only"):
        copy.deepcopy(model).calibrate(indices=named(20, 22), **FEW)


def test_peaks_can_be_imputed_from_a_loaded_model_of_other_cells(
    model: MultiVAE, cells: mudata.MuData, tmp_path: Path
) -> None:
    """The depth travels with the model: the cells it is loaded with need not have the target."""
    model.save(tmp_path / "model")
    alone = mudata.MuData({"rna": cells["rna"].copy()})
    alone.obs["batch"] = cells.obs.loc[alone.obs_names, "batch"]
    loaded = MultiVAE.load(tmp_path / "model", alone)
    found = loaded.impute("atac", **FEW)
    expected = model.impute("atac", indices=list(alone.obs_names), given=["rna"], **FEW)
    assert answers_equal(found, expected)


def test_the_depth_of_what_is_given_moves_every_cell_by_its_slope(
    model: MultiVAE, cells: mudata.MuData
) -> None:
    """Ten times the reads at the same shares leave z as it is; the odds of all peaks move together."""
    both = named(12, 80)
    plain = mudata.MuData({"rna": cells["rna"][both].copy()})
    plain.obs["batch"] = cells.obs.loc[both, "batch"]
    deeper = plain.copy()
    deeper["rna"].X = deeper["rna"].X * 10
    odds = [
        np.log(found.X / (1.0 - found.X))
        for found in (model.impute("atac", each, given=["rna"], n_samples=1) for each in (plain, deeper))
    ]
    rna, atac = (list(cells.mod).index(name) for name in ("rna", "atac"))
    depth = model._aids.depths[Direction(atac, (rna,))]
    moved = float(model.module.likelihoods[atac].gamma.detach() * depth.slope[-1]) * np.log(10.0)
    assert abs(moved) > 1e-3
    np.testing.assert_allclose(odds[1] - odds[0], moved, atol=1e-4 + 1e-3 * abs(moved))


def test_a_mosaic_without_a_paired_cell_says_that_depth_is_unknown(tmp_path: Path) -> None:
    """Also after it was saved, when the cells that it was learned from are gone; saving itself is silent."""
    apart = {"atac": range(20), "rna": range(20, 40)}
    cells = register(make_cells(n_cells=40, lacking=apart))
    alone = train(make_model(cells), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MultiomicsWarning)
        alone.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", mudata.MuData({"rna": cells["rna"].copy()}))
    for each in (alone, loaded):
        with pytest.warns(
            MultiomicsWarning, match=r"'atac' together with any of \['rna'\].*get_normalized\('atac'"
        ):
            found = each.impute("atac", indices=named(0, 20), **FEW)
        assert np.isfinite(found.X).all()
        assert "too few have anything of what is given" in found.uns["multivae_prediction"]["depth"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"modality": "rma"}, r"no modality 'rma'\. Did you mean 'rna'"),
        ({"given": ["atak"]}, r"no modality 'atak'\. Did you mean 'atac'"),
        ({"given": ["rna"]}, r"given holds 'rna', which is to be imputed.*given=\['atac'\].*model\.denoise"),
        ({"given": ["rna", "atac"]}, r"given holds 'rna'.*given=\['atac'\]"),
        ({"given": "atac"}, r"given must be a list: given=\['atac'\]"),
        ({"given": []}, "given is empty"),
        ({"indices": None}, r"6 of 80 cells have none of given=\['atac'\].*indices=mdata\.obs_names"),
        ({"features": ["rna:f99"]}, r"no feature 'rna:f99'.*Did you mean"),
        ({"features": "rna:f0"}, r"features=\['rna:f0'\]"),
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": 2.5}, "n_samples"),
        ({"quantiles": (0.05, 1.0)}, r"between 0 and 1, and 1\.0 does not: quantiles=\(0\.05, 0\.95\)"),
        ({"quantiles": (5, 95)}, "between 0 and 1, and 5 does not"),
        ({"quantiles": 0.9}, "quantiles must be a list"),
        ({"quantiles": (0.05, 0.05)}, "name a level twice"),
        ({"calibrated": "yes"}, "calibrated must be True, False or None"),
        ({"transform_batch": "b3"}, r"no batch 'b3' in 'batch'\. Did you mean"),
        ({"seed": -1}, "seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"indices": ["c999"]}, "names a cell 'c999' that is not there"),
    ],
)
def test_row_70_bad_arguments(model: MultiVAE, arguments: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        model.impute(**{"modality": "rna", "indices": named(20, 22), **arguments})


def test_a_model_of_one_modality_imputes_nothing() -> None:
    kinds = {"only": "nb"}
    model = train(make_model(register(make_cells(kinds), kinds)), 1)
    with pytest.raises(InputError, match=r"only the modality 'only'.*model\.denoise\('only'\)"):
        model.impute("only")
    assert model.denoise("only", **FEW).n_obs == 40


def test_row_66_an_untrained_model_imputes_nothing() -> None:
    with pytest.raises(NotFittedError, match=r"model\.train\(\)"):
        make_model().impute("rna")
