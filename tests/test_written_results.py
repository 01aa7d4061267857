"""Results written into a MuData, and what scanpy makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pandas as pd
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.errors import InputError, NotFittedError
from multiomics_vae.fusion import FUSION_RULES
from small_models import fingerprint, make_cells, make_model, permuted, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    """Cells of which some lack RNA and some lack ATAC; read only."""
    return register(make_cells(lacking={"atac": range(6), "rna": range(6, 12)}), batch_key="batch")


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    return train(make_model(cells))


def test_row_66_nothing_is_written_before_training() -> None:
    mdata = make_cells()
    before = fingerprint(mdata)
    with pytest.raises(NotFittedError, match=r"model\.train\(\)"):
        make_model().write_results(mdata)
    assert fingerprint(mdata) == before


def test_results_are_written_by_name(model: MultiVAE, cells: mudata.MuData) -> None:
    shuffled = permuted(cells)
    before = fingerprint(shuffled)
    model.write_results(shuffled)
    mean, variance = model.get_latent_representation(shuffled, return_dist=True)
    np.testing.assert_array_equal(shuffled.obsm["X_multivae"], mean)
    table = pd.DataFrame(mean, index=shuffled.obs_names)
    for adata in shuffled.mod.values():
        np.testing.assert_array_equal(adata.obsm["X_multivae"], table.loc[adata.obs_names])
    np.testing.assert_allclose(shuffled.obs["multivae_sd"], np.sqrt(variance).mean(axis=1), rtol=1e-6)
    entropy = 0.5 * np.log(2 * np.pi * np.e * variance).sum(axis=1)
    np.testing.assert_allclose(shuffled.obs["multivae_entropy"], entropy, rtol=1e-4)
    weights = model.get_expert_weights(shuffled)
    for name in model.expert_names:
        np.testing.assert_array_equal(shuffled.obs[f"multivae_weight_{name}"], weights[name])
    after = fingerprint(shuffled)
    added = {place for place in after if place not in before}
    assert all("X_multivae" in place or "multivae_" in place for place in added)
    assert {place: after[place] for place in before} == before


@pytest.mark.parametrize("fusion", FUSION_RULES)
def test_results_survive_the_disk(fusion: str, cells: mudata.MuData, tmp_path: Path) -> None:
    mdata = cells.copy()
    train(make_model(cells, fusion=fusion), 1).write_results(mdata, key="X_mine")
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    again = mudata.read_h5mu(tmp_path / "cells.h5mu")
    np.testing.assert_array_equal(again.obsm["X_mine"], mdata.obsm["X_mine"])
    np.testing.assert_array_equal(again["rna"].obsm["X_mine"], mdata["rna"].obsm["X_mine"])


@pytest.mark.parametrize("key", ["rna", "", 3])
def test_results_are_not_written_over_a_modality(model: MultiVAE, cells: mudata.MuData, key: Any) -> None:
    mdata = cells.copy()
    before = fingerprint(mdata)
    with pytest.raises(InputError, match=r"key=.X_multivae"):
        model.write_results(mdata, key=key)
    assert fingerprint(mdata) == before


def test_row_09_results_are_not_written_into_a_view(model: MultiVAE, cells: mudata.MuData) -> None:
    with pytest.raises(InputError, match=r"view.*mdata\.copy\(\)"):
        model.write_results(cells[:20])
    np.testing.assert_allclose(
        model.get_latent_representation(cells[:20]), model.get_latent_representation()[:20], atol=1e-5
    )


@pytest.mark.slow
def test_scanpy_goes_on_from_the_results(model: MultiVAE, cells: mudata.MuData) -> None:
    import scanpy as sc

    mdata = cells.copy()
    model.write_results(mdata)
    sc.pp.neighbors(mdata, use_rep="X_multivae", n_neighbors=5)
    sc.tl.umap(mdata)
    assert mdata.obsm["X_umap"].shape == (40, 2)
    rna = mdata["rna"].copy()
    sc.pp.neighbors(rna, use_rep="X_multivae", n_neighbors=5)
    sc.tl.umap(rna)
    sc.tl.leiden(rna, flavor="igraph", n_iterations=2)
    assert np.isfinite(rna.obsm["X_umap"]).all()
