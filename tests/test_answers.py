"""What a trained model answers. Numbers of rows are those of the catalogue of faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.errors import InputError, MultiomicsWarning, NotFittedError
from multiomics_vae.fusion import FUSION_RULES
from small_models import make_cells, make_model, permuted, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

ANSWERS: dict[str, Callable[..., Any]] = {
    "latent": lambda model, *a, **k: model.get_latent_representation(*a, **k),
    "variance": lambda model, *a, **k: model.get_latent_representation(*a, return_dist=True, **k)[1],
    "samples": lambda model, *a, **k: np.moveaxis(model.get_latent_samples(*a, n_samples=2, **k), 1, 0),
    "weights": lambda model, *a, **k: model.get_expert_weights(*a, **k).to_numpy(),
    "elbo": lambda model, *a, **k: model.get_elbo(*a, **k).to_numpy(),
    "log_likelihood": lambda model, *a, **k: model.get_log_likelihood(*a, **k).to_numpy(),
    "normalized": lambda model, *a, **k: model.get_normalized("rna", *a, **k).to_numpy(),
    "sampled": lambda model, *a, **k: model.get_normalized("atac", *a, n_samples=3, **k).to_numpy(),
}
LACKING = {"atac": range(6), "rna": range(6, 12)}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    """Cells of which some lack RNA and some lack ATAC; read only."""
    return register(make_cells(lacking=LACKING), batch_key="batch")


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    return train(make_model(cells), 4, learning_rate=1e-2)


# Row 66: not before training


@pytest.mark.parametrize("answer", ANSWERS)
def test_row_66_nothing_is_answered_before_training(answer: str) -> None:
    with pytest.raises(NotFittedError, match=r"has not been trained.*model\.train\(\)"):
        ANSWERS[answer](make_model())


# Row 69: a cell's answer does not depend on the cells beside it


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("fusion", FUSION_RULES)
def test_row_69_rows_are_independent(answer: str, fusion: str, cells: mudata.MuData) -> None:
    """To a part in 1e4 of the largest value: other shapes of a product round otherwise in float32."""
    model = _trained_with(fusion, cells)
    ask = ANSWERS[answer]
    whole = ask(model)
    tolerance = 1e-4 * np.nanmax(np.abs(whole))
    assert len(whole) == 40
    order = np.random.default_rng(0).permutation(40)
    for chosen in (order, order[:7], order[:1]):
        np.testing.assert_allclose(ask(model, None, chosen), whole[chosen], atol=tolerance)
    for batch_size in (1, 3, 39, 100):
        np.testing.assert_allclose(ask(model, batch_size=batch_size), whole, atol=tolerance)
    np.testing.assert_array_equal(ask(model), whole)


_MODELS: dict[str, MultiVAE] = {}


def _trained_with(fusion: str, cells: mudata.MuData) -> MultiVAE:
    if fusion not in _MODELS:
        _MODELS[fusion] = train(make_model(cells, fusion=fusion))
    return _MODELS[fusion]


def test_row_69_other_cells_of_the_same_kind_get_the_same(model: MultiVAE, cells: mudata.MuData) -> None:
    part = cells[[3, 20, 11]].copy()
    rows = cells.obs_names.get_indexer(part.obs_names)
    for ask in ANSWERS.values():
        np.testing.assert_allclose(ask(model, part), ask(model)[rows], atol=1e-4)


# Naming cells


def test_cells_are_named_by_position_mask_and_name(model: MultiVAE, cells: mudata.MuData) -> None:
    whole = model.get_elbo()
    mask = (cells.obs["batch"] == "b1").to_numpy()
    wanted = whole[mask]
    for indices in (mask, pd.Series(mask), np.flatnonzero(mask), list(cells.obs_names[mask]), wanted.index):
        pd.testing.assert_series_equal(model.get_elbo(indices=indices), wanted, rtol=1e-4)
    assert list(model.get_elbo(indices=[-1, 0]).index) == [cells.obs_names[-1], cells.obs_names[0]]
    assert model.get_latent_representation(indices=[]).shape == (0, 3)
    assert model.get_latent_samples(indices=[], n_samples=2).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("indices", "match"),
    [
        ([True, False], "mask of 2 entries, but there are 40 cells"),
        ([0, 40], r"reaches 40, but there are 40 cells: indices=range\(40\)"),
        ([-41], "reaches -41"),
        (["c1", "d1"], r"names a cell 'd1' that is not there \(1 of 2"),
        ([[0, 1]], r"one list, not an array of shape \(1, 2\)"),
        ("c1", "one list"),
        ([0.5], "'0.5' that is not there"),
    ],
)
def test_cells_that_are_not_there(model: MultiVAE, indices: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        model.get_latent_representation(indices=indices)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.5}, r"not 2\.5"),
        ({"modalities": "rna"}, r"modalities=\['rna'\]"),
        ({"modalities": ["rma"]}, r"no modality 'rma'\. Did you mean 'rna'"),
        ({"modalities": []}, r"modalities is empty.*modalities=\["),
    ],
)
def test_row_70_bad_arguments_of_the_latent(model: MultiVAE, arguments: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        model.get_latent_representation(**arguments)


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, True])
def test_numbers_of_samples_that_make_no_sense(model: MultiVAE, n_samples: Any) -> None:
    for ask in (model.get_latent_samples, model.get_elbo, model.get_log_likelihood):
        with pytest.raises(InputError, match="n_samples must be a whole number of at least 1"):
            ask(n_samples=n_samples)
    with pytest.raises(InputError, match="n_samples"):
        model.get_normalized("rna", n_samples=n_samples)


# Rows 36, 37 and 38: other cells


def test_row_36_unseen_batch(model: MultiVAE) -> None:
    query = make_cells()
    query.obs["batch"] = np.where(np.arange(40) < 3, "b7", "b0")
    with pytest.raises(InputError, match=r"'b7'.*'b0', 'b1'"):
        model.get_latent_representation(query)


def test_row_37_features_and_cells_in_another_order(model: MultiVAE, cells: mudata.MuData) -> None:
    shuffled = permuted(cells)
    rows = cells.obs_names.get_indexer(shuffled.obs_names)
    assert not np.array_equal(rows, np.arange(40))
    for ask in ANSWERS.values():
        np.testing.assert_allclose(ask(model, shuffled), ask(model)[rows], atol=1e-4)


def test_row_38_missing_features_are_refused(model: MultiVAE, cells: mudata.MuData) -> None:
    fewer = mudata.MuData({"rna": cells["rna"][:, 2:].copy(), "atac": cells["atac"].copy()})
    fewer.obs["batch"] = cells.obs.loc[fewer.obs_names, "batch"]
    with pytest.raises(InputError, match=r"'rna'.*20.*%.*rna:f0") as caught:
        model.get_latent_representation(fewer)
    assert "rna:f1" in str(caught.value)


def test_row_38_extra_features_and_modalities_are_left_out(model: MultiVAE, cells: mudata.MuData) -> None:
    prot = make_cells({"prot": "nb"})["prot"]
    same = mudata.MuData({"prot": prot, "rna": _wider(cells["rna"]), "atac": _wider(cells["atac"])})
    same.obs["batch"] = cells.obs.loc[same.obs_names, "batch"]
    rows = cells.obs_names.get_indexer(same.obs_names)
    np.testing.assert_allclose(
        model.get_latent_representation(same), model.get_latent_representation()[rows], atol=1e-5
    )


def _wider(adata: anndata.AnnData) -> anndata.AnnData:
    extra = adata[:, :2].copy()
    extra.var_names = ["extra0", "extra1"]
    return anndata.concat([extra, adata], axis="var")


def test_a_query_without_a_modality_is_answered_from_the_others(
    model: MultiVAE, cells: mudata.MuData
) -> None:
    only = mudata.MuData({"rna": cells["rna"].copy()})
    only.obs["batch"] = cells.obs.loc[only.obs_names, "batch"]
    found = model.get_latent_representation(only)
    wanted = model.get_latent_representation(indices=only.obs_names, modalities=["rna"])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert model.get_log_likelihood(only)["atac"].isna().all()


def test_a_query_of_another_kind_is_refused(model: MultiVAE) -> None:
    with pytest.raises(InputError, match=r"none of the registered modalities \['rna', 'atac'\]"):
        model.get_latent_representation(make_cells({"prot": "nb"}))
    with pytest.raises(InputError, match=r"mudata\.MuData"):
        model.get_latent_representation(make_cells()["rna"])


# Latent


def test_cells_without_the_modality_get_the_prior_and_a_warning(model: MultiVAE) -> None:
    for modalities in (["rna"], (name for name in ["rna"])):
        with pytest.warns(MultiomicsWarning, match=r"6 of 40 cells have none of the modalities \['rna'\]"):
            mean, variance = model.get_latent_representation(modalities=modalities, return_dist=True)
        without = ~model._data.present[:, 0]
        np.testing.assert_allclose(mean[without], 0.0, atol=1e-6)
        np.testing.assert_allclose(variance[without], 1.0, atol=1e-6)
        assert (variance[~without] < 1.0).any()
    with pytest.warns(MultiomicsWarning, match="get the prior"):
        model.get_latent_samples(modalities=["rna"])
    with pytest.warns(MultiomicsWarning, match="get the prior"):
        model.get_log_likelihood(modalities=["rna"])


def test_all_modalities_named_is_the_same_as_none_named(model: MultiVAE) -> None:
    np.testing.assert_array_equal(
        model.get_latent_representation(modalities=["atac", "rna"]), model.get_latent_representation()
    )


def test_samples_follow_mean_and_variance(model: MultiVAE) -> None:
    n_samples = 4_000
    draws = model.get_latent_samples(indices=range(4), n_samples=n_samples)
    mean, variance = model.get_latent_representation(indices=range(4), return_dist=True)
    assert np.abs((draws.mean(0) - mean) / np.sqrt(variance / n_samples)).max() < 4.5
    assert np.abs(draws.var(0) / variance - 1.0).max() < 4.5 * np.sqrt(2.0 / n_samples)
    assert not np.array_equal(draws, model.get_latent_samples(indices=range(4), n_samples=n_samples, seed=1))
    with pytest.raises(InputError, match="seed must be a whole number of at least 0"):
        model.get_latent_samples(seed=-1)


@pytest.mark.parametrize("fusion", FUSION_RULES)
def test_expert_weights_are_shares(fusion: str, cells: mudata.MuData) -> None:
    model = _trained_with(fusion, cells)
    weights = model.get_expert_weights()
    assert list(weights.index) == list(cells.obs_names)
    assert tuple(weights.columns) == model.expert_names
    assert len(set(weights.columns)) == weights.shape[1]
    assert (weights.to_numpy() >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    lacks_rna = ~model._data.present[:, 0]
    if "rna" in weights and model.module.fusion.robust_to_missing:
        np.testing.assert_allclose(weights.loc[lacks_rna, "rna"], 0.0, atol=1e-6)


# Bounds


def test_elbo_is_log_likelihood_minus_kl(model: MultiVAE) -> None:
    mean, variance = model.get_latent_representation(return_dist=True)
    kl = 0.5 * (variance + mean**2 - 1.0 - np.log(variance)).sum(axis=1)
    likelihood = model.get_log_likelihood()
    lacks = ~model._data.present
    assert np.array_equal(likelihood.isna().to_numpy(), lacks)
    np.testing.assert_allclose(model.get_elbo(), likelihood.sum(axis=1) - kl, rtol=1e-4)
    assert model.get_elbo().name == "elbo"


def test_elbo_does_not_depend_on_the_weights_in_training(cells: mudata.MuData) -> None:
    """λ and β shape training only: with a step of almost nothing they change nothing."""
    still = {"learning_rate": 1e-12, "max_epochs": 1}
    plain = train(make_model(cells), **still).get_elbo()
    weighted = train(make_model(cells), **still, kl_weight=7.0, modality_weights={"rna": 5.0}).get_elbo()
    np.testing.assert_allclose(plain, weighted, rtol=1e-4)


def test_summary_names_what_matters(model: MultiVAE) -> None:
    text = model.summary()
    for word in (
        "rna",
        "atac",
        "bernoulli",
        "batch: 'batch', 2 categories",
        "3 latent dimensions",
        "product",
    ):
        assert word in text
