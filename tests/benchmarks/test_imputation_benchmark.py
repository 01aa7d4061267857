"""Imputation and mosaics: the baselines find what is there, and the scores are what they say."""

from __future__ import annotations

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge

from alignment_data import AlignmentData
from fusion_choice import with_noise
from imputation_baselines import (
    Predictor,
    inputs,
    kernel_ridge,
    neighbours,
    paired_names,
    ridge,
    ridge_fits,
    targets,
    tuned,
)
from imputation_tasks import RECIPES, ImputationTask
from mosaic_removed import draw_removal, foscttm, remove, with_zeros
from scores import Split, auroc_per_column, pearson_per_column

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def make_task(n: int = 400, seed: int = 0) -> ImputationTask:
    """Counts and peaks that follow one latent variable; a part of the cells has counts only."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(n, 2))
    counts = rng.poisson(np.exp(1.0 + state @ rng.normal(size=(2, 250)))).astype(np.float32)
    peaks = (rng.random((n, 30)) < 1 / (1 + np.exp(-2 * state @ rng.normal(size=(2, 30))))).astype(np.float32)
    names = pd.Index([f"c{i}" for i in range(n)])

    def part(values: np.ndarray, rows: np.ndarray) -> AnnData:
        return AnnData(sp.csr_matrix(values[rows]), obs=pd.DataFrame(index=names[rows]))

    train, test = np.arange(n // 5, n), np.arange(n // 5)
    mdata = md.MuData({"rna": part(counts, train), "atac": part(peaks, train[40:])})
    return ImputationTask(
        name="peaks_from_rna",
        data_set="made",
        given="rna",
        target="atac",
        train=mdata,
        test=md.MuData({"rna": part(counts, test)}),
        truth=sp.csr_matrix(peaks[test]),
        kind="binary",
        score=auroc_per_column,
        score_name="AUROC",
        seed=0,
    )


def test_ridge_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=(60, 5)) + 3, rng.normal(size=(60, 4)) - 2, rng.normal(size=(7, 5))
    for penalty, found in zip((0.5, 50.0), ridge_fits(x, y, new, (0.5, 50.0)), strict=True):
        np.testing.assert_allclose(found, Ridge(alpha=penalty).fit(x, y).predict(new), rtol=1e-8)


@pytest.mark.parametrize("predictor", [ridge, neighbours, kernel_ridge])
def test_a_baseline_finds_what_is_there(predictor: Predictor) -> None:
    task = make_task()
    found = tuned(task, predictor)
    assert found.values.shape == task.truth.shape
    assert task.score(task.truth, found.values).mean > 0.8
    shuffled = np.random.default_rng(0).permutation(task.truth.shape[0])
    assert task.score(task.truth[shuffled], found.values).mean < 0.6


def test_inputs_of_held_out_cells_do_not_change_those_of_training_cells() -> None:
    task, other = make_task(), make_task()
    other.test["rna"].X = other.test["rna"].X * 3
    np.testing.assert_array_equal(inputs(task, 30)[0], inputs(other, 30)[0])
    assert len(inputs(task, 30)[0]) == task.train["atac"].n_obs


def test_depth_is_taken_out_of_inputs_and_targets() -> None:
    task = make_task()
    names = paired_names(task)
    for values, of in ((inputs(task, 30, True)[0], "rna"), (targets(task, True), "atac")):
        log_depth = np.log(np.asarray(task.train[of][names].X.sum(1)).ravel())
        correlation = np.corrcoef(np.column_stack([log_depth, values]), rowvar=False)[0, 1:]
        assert np.abs(correlation).max() < 0.15
    np.testing.assert_allclose(targets(task, True).mean(0), targets(task).mean(0), atol=1e-5)
    plain = inputs(task, 30)[0]
    log_depth = np.log(np.asarray(task.train["rna"][names].X.sum(1)).ravel())
    assert np.corrcoef(plain[:, -1], log_depth)[0, 1] > 0.999
    found = tuned(task, ridge, depth_free=True)
    assert task.score(task.truth, found.values).mean > 0.8


def test_noise_keeps_the_values_of_a_feature_and_nothing_of_the_cell() -> None:
    task = make_task()
    names = paired_names(task)
    mdata = md.MuData({name: task.train[name][names].copy() for name in ("rna", "atac")})
    split = Split(np.arange(200), np.arange(200, mdata.n_obs))
    nothing = np.full(mdata.n_obs, "", dtype="U4")
    data = AlignmentData("made", "atac", {}, None, mdata, nothing, split, nothing)
    spoiled = with_noise(data, 0.5)
    for name in ("rna", "atac"):
        before, after = mdata[name].X.toarray(), spoiled.mdata[name].X.toarray()
        hit = spoiled.swapped == name
        assert hit.sum() == pytest.approx(mdata.n_obs / 4, abs=1)
        np.testing.assert_array_equal(before[~hit], after[~hit])
        np.testing.assert_array_equal(np.sort(before[hit], axis=0), np.sort(after[hit], axis=0))
        assert (before[hit] != after[hit]).any(1).mean() > 0.9


def test_pearson_per_column() -> None:
    rng = np.random.default_rng(0)
    truth, values = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    truth[:, 1] = 2.0  # constant: not scored
    found = pearson_per_column(truth, values)
    expected = [pearsonr(truth[:, j], values[:, j]).statistic for j in (0, 2)]
    assert found.n_features == 2
    assert found.mean == pytest.approx(np.mean(expected))


def test_foscttm_against_its_definition_and_its_bounds() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    assert foscttm(a, a) == 0.0
    distance = np.linalg.norm(a[:, None] - b, axis=-1)
    shares = [
        np.mean([(matrix[i] < matrix[i, i]).sum() / 39 for i in range(40)])
        for matrix in (distance, distance.T)
    ]
    assert foscttm(a, b, at_once=7) == pytest.approx(np.mean(shares))
    far = rng.normal(size=(4_000, 2))
    assert foscttm(far, rng.normal(size=(4_000, 2))) == pytest.approx(0.5, abs=0.02)


def test_removal_takes_from_disjoint_cells() -> None:
    task = make_task()
    both = task.train["atac"].obs_names
    mdata = md.MuData({name: task.train[name][both].copy() for name in ("rna", "atac")})
    removal = draw_removal(mdata.n_obs)
    assert removal.whole.mean() == pytest.approx(0.2, abs=0.01)
    assert (removal.has_rna | removal.has_atac).all()
    lacking = remove(mdata, removal)
    assert set(lacking["rna"].obs_names) == set(mdata.obs_names[removal.has_rna])
    assert set(lacking.obs_names) == set(mdata.obs_names)
    zeroed = with_zeros(mdata, removal)
    assert list(zeroed.obs_names) == list(mdata.obs_names)
    for name, has in (("rna", removal.has_rna), ("atac", removal.has_atac)):
        assert zeroed[name].X[~has].nnz == 0
        np.testing.assert_array_equal(zeroed[name].X[has].toarray(), mdata[name].X[has].toarray())


def test_recipes_have_names_of_their_own() -> None:
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
