"""Outcomes of new cells on a fitted model: its heads, its calibration, its correction within types."""

from __future__ import annotations

from typing import Any

import mudata
import numpy as np
import pandas as pd
import pytest
import torch

from multiomics_vae import BatchCorrection, Head, MultiVAE
from multiomics_vae.errors import InputError
from multiomics_vae.extension import learned
from new_cells import new_cells, without
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:mudata", "ignore::UserWarning:anndata", "ignore::FutureWarning"
)
QUICK: dict[str, Any] = {"max_epochs": 2, "progress": False}


def _with_types(mdata: mudata.MuData) -> mudata.MuData:
    mdata.obs["type"] = np.where(np.arange(mdata.n_obs) // 2 % 2, "B", "T")
    return mdata


def test_heads_stay_as_they_are_and_answer_for_new_cells() -> None:
    cells = register(_with_types(make_cells(n_cells=60)), batch_key="batch", outcomes={"type": "categorical"})
    fitted = train(make_model(cells, heads={"type": Head(n_hidden=6)}), 3)
    unlabelled = new_cells()  # without the column that the head was trained on
    mapped = MultiVAE.map_query(unlabelled, fitted, **QUICK)
    before, after = fitted.module.state_dict(), mapped.module.state_dict()
    of_heads = [name for name in before if name.startswith("heads.")]
    assert of_heads
    assert all(torch.equal(before[name], after[name]) for name in of_heads)
    table = mapped.predict("type").table
    assert list(table.index) == list(unlabelled.obs_names)
    np.testing.assert_allclose(table[["p_B", "p_T"]].sum(axis=1), 1.0, rtol=1e-5)


def _of_donors(mdata: mudata.MuData) -> mudata.MuData:
    position = np.arange(mdata.n_obs)
    mdata.obs["person"] = [f"p{i % 8}" for i in position]
    mdata.obs["response"] = np.where(position % 8 < 4, "no", "yes")
    mdata.obs["type"] = np.where(position // 8 % 2, "B", "T")
    return mdata


@pytest.fixture(scope="module")
def predicting() -> MultiVAE:
    cells = register(
        _of_donors(make_cells(n_cells=96)),
        batch_key="batch",
        donor_key="person",
        outcomes={"response": "binary", "type": "categorical"},
    )
    correction = BatchCorrection("hsic", conditional_on="type")
    heads = {"response": Head(level="donor"), "type": Head()}
    return train(make_model(cells, heads=heads, batch_correction=correction), 3, validation_size=0.3)


def test_probabilities_of_new_cells_are_calibrated_as_those_of_the_reference(predicting: MultiVAE) -> None:
    new = new_cells()
    new.obs["batch"] = "b0"
    wanted = predicting.predict("type", mdata=new)
    found = MultiVAE.map_query(new, predicting, **QUICK).predict("type")
    pd.testing.assert_frame_equal(found.table, wanted.table, rtol=1e-5)
    assert "set" in found.table


@pytest.mark.parametrize("typed", [True, False])
def test_a_correction_within_types_lets_new_cells_be_mapped(predicting: MultiVAE, typed: bool) -> None:
    new = _of_donors(new_cells())
    if not typed:
        del new.obs["type"]
    mapped = MultiVAE.map_query(new, predicting, **QUICK)
    assert ("hsic_train" in mapped.history) == typed
    assert np.isfinite(mapped.get_latent_representation()).all()


def test_a_new_batch_of_one_donor_learns(predicting: MultiVAE) -> None:
    new = _of_donors(new_cells(n_cells=64))
    new.obs["batch"] = "lab_" + new.obs["person"].astype(str)
    mapped = MultiVAE.map_query(new, predicting, max_epochs=4, progress=False)
    columns = [weight.abs().sum(0) for weight in learned(mapped.module).values() if weight.ndim == 2]
    assert all((column > 0).all() for column in columns)


def test_predictions_of_cells_that_lack_features(predicting: MultiVAE) -> None:
    new = new_cells()
    new.obs["batch"] = "b0"
    fewer = without(new, "rna", [new["rna"].var_names[0]])
    mapped = MultiVAE.map_query(fewer, predicting, **QUICK)
    pd.testing.assert_frame_equal(
        mapped.predict("type", mdata=fewer).table, mapped.predict("type").table, rtol=1e-5
    )
    with pytest.raises(InputError, match="the donor of none of these cells is known"):
        mapped.explain("response")
