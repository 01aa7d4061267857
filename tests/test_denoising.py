"""Denoised values of a trained model. Numbers of rows are those of the catalogue of faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.errors import InputError
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    """Cells of which some lack RNA and some lack ATAC; read only."""
    return register(make_cells(lacking={"atac": range(6), "rna": range(6, 12)}), batch_key="batch")


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    return train(make_model(cells), 4, learning_rate=1e-2)


def test_normalized_counts_are_shares_of_the_library(model: MultiVAE, cells: mudata.MuData) -> None:
    values = model.get_normalized("rna")
    assert list(values.index) == list(cells.obs_names)
    assert list(values.columns) == list(cells["rna"].var_names)
    assert (values.to_numpy() > 0).all()
    np.testing.assert_allclose(values.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(
        model.get_normalized("rna", library_size=1e4), values.to_numpy() * 1e4, rtol=1e-5
    )
    peaks = model.get_normalized("atac").to_numpy()
    assert ((peaks > 0) & (peaks < 1)).all()


def test_normalized_features_come_in_the_order_asked_for(model: MultiVAE) -> None:
    whole = model.get_normalized("rna")
    wanted = ["rna:f7", "rna:f0", "rna:f3"]
    some = model.get_normalized("rna", features=iter(wanted))
    pd.testing.assert_frame_equal(some, whole[wanted], rtol=1e-5)


def test_normalized_of_a_batch(model: MultiVAE) -> None:
    by_batch = {batch: model.get_normalized("rna", transform_batch=batch) for batch in ("b0", "b1")}
    assert np.abs(by_batch["b0"] - by_batch["b1"]).to_numpy().max() > 1e-5
    own = model.get_normalized("rna")
    codes = model._data.batch
    for code, batch in enumerate(("b0", "b1")):
        np.testing.assert_allclose(own[codes == code], by_batch[batch][codes == code], rtol=1e-5)
    both = model.get_normalized("rna", transform_batch=["b0", "b1"])
    np.testing.assert_allclose(both, 0.5 * (by_batch["b0"] + by_batch["b1"]), rtol=1e-4)


def test_normalized_over_draws_tends_to_a_mean(model: MultiVAE) -> None:
    few, many = (model.get_normalized("rna", n_samples=n, indices=[20]) for n in (2_000, 4_000))
    np.testing.assert_allclose(few, many, rtol=0.05)
    np.testing.assert_allclose(many.sum(axis=1), 1.0, atol=1e-4)
    assert not np.allclose(many, model.get_normalized("rna", indices=[20]), rtol=1e-6)


def test_names_from_scvi_tools(model: MultiVAE) -> None:
    pd.testing.assert_frame_equal(model.get_normalized_expression(), model.get_normalized("rna"))
    pd.testing.assert_frame_equal(model.get_normalized_accessibility(), model.get_normalized("atac"))
    assert model.get_normalized_expression(modality="atac", gene_list=None).shape == (40, 10)
    kinds = {"rna": "nb", "prot": "protein_mixture"}
    proteins = train(make_model(register(make_cells(kinds), kinds)), 1)
    pd.testing.assert_frame_equal(proteins.get_normalized_expression(), proteins.get_normalized("rna"))
    with pytest.raises(InputError, match=r"There is no accessibility.*get_normalized\('rna'\)"):
        proteins.get_normalized_accessibility()
    kinds = {"rna": "nb", "prot": "zinb"}
    two = train(make_model(register(make_cells(kinds), kinds)), 1)
    with pytest.raises(InputError, match=r"2 modalities of expression.*get_normalized\('rna'\)"):
        two.get_normalized_expression()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"modality": "rma"}, r"no modality 'rma'\. Did you mean 'rna'"),
        ({"features": ["rna:f99"]}, r"no feature 'rna:f99' \(1 of 1.*Did you mean"),
        ({"features": "rna:f0"}, r"features=\['rna:f0'\]"),
        ({"transform_batch": "b3"}, r"no batch 'b3' in 'batch'\. Did you mean"),
        ({"transform_batch": 3}, "no batch '3'"),
        ({"transform_batch": []}, "transform_batch is empty"),
        ({"library_size": 0}, "library_size must be a number above 0"),
        ({"library_size": "latent"}, "library_size must be a number above 0"),
    ],
)
def test_row_70_bad_arguments_of_normalized(model: MultiVAE, arguments: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        model.get_normalized(**{"modality": "rna", **arguments})


def test_a_batch_is_asked_for_where_none_was_registered() -> None:
    without = train(make_model(), 1)
    with pytest.raises(InputError, match=r"setup_mudata\(mdata, batch_key="):
        without.get_normalized("rna", transform_batch="b0")


# Given some of the modalities


def with_rna(cells: mudata.MuData) -> np.ndarray:
    return np.asarray(cells.obs_names.isin(cells["rna"].obs_names))


@pytest.mark.parametrize("modality", ["rna", "atac"])
def test_values_given_a_modality_are_those_of_cells_that_have_no_other(
    model: MultiVAE, cells: mudata.MuData, modality: str
) -> None:
    only = mudata.MuData({"rna": cells["rna"].copy()})
    only.obs["batch"] = cells.obs.loc[only.obs_names, "batch"]
    found = model.get_normalized(modality, indices=list(only.obs_names), given=["rna"])
    pd.testing.assert_frame_equal(found, model.get_normalized(modality, only), rtol=1e-4)
    everything = model.get_normalized(modality, indices=list(only.obs_names))
    assert np.abs(found / everything - 1.0).to_numpy().max() > 1e-3


def test_nothing_of_the_other_modalities_is_read(model: MultiVAE, cells: mudata.MuData) -> None:
    """Other peaks, deeper, leave what is said of them from RNA as it was, to the last bit."""
    other = cells.copy()
    peaks = other["atac"].X.toarray()
    other.mod["atac"].X = np.maximum(peaks, np.roll(peaks, 1, axis=1))
    rows = with_rna(cells)
    before = model.get_normalized("atac", cells, rows, given=["rna"])
    pd.testing.assert_frame_equal(model.get_normalized("atac", other, rows, given=["rna"]), before)
    changed = model.get_normalized("atac", other, rows) - model.get_normalized("atac", cells, rows)
    assert np.abs(changed).to_numpy().max() > 1e-4


def test_given_all_modalities_is_given_nothing(model: MultiVAE) -> None:
    pd.testing.assert_frame_equal(
        model.get_normalized("rna", given=iter(["atac", "rna"])), model.get_normalized("rna")
    )


def test_every_way_of_asking_hands_on_what_is_given(
    model: MultiVAE, cells: mudata.MuData, tmp_path: Path
) -> None:
    rows = with_rna(cells)
    expression = model.get_normalized("rna", indices=rows, given=["rna"])
    pd.testing.assert_frame_equal(model.get_normalized_expression(indices=rows, given=["rna"]), expression)
    peaks = model.get_normalized("atac", indices=rows, given=["rna"], features=["atac:f3"])
    found = model.get_normalized_accessibility(indices=rows, given=["rna"], region_list=["atac:f3"])
    pd.testing.assert_frame_equal(found, peaks)
    model.write_normalized(tmp_path / "peaks.h5ad", "atac", indices=rows, given=["rna"], features=["atac:f3"])
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "peaks.h5ad").X, peaks.to_numpy())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["RNA"], r"no modality 'RNA'\. Did you mean 'rna'"),
        (["rna", "prot"], r"no modality 'prot'\. Allowed: 'atac', 'rna'"),
        ("rna", r"given must be a list: given=\['rna'\]"),
        ([], r"given is empty.*given=\['rna'\]"),
        (["rna"], r"6 of 40 cells have none of given=\['rna'\] \(the first is 'c6'\)"),
    ],
)
def test_given_that_cannot_be(model: MultiVAE, tmp_path: Path, given: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        model.get_normalized("atac", given=given)
    with pytest.raises(InputError, match=match):
        model.write_normalized(tmp_path / "out.h5ad", "atac", given=given)
    assert list(tmp_path.iterdir()) == []


def test_the_line_that_leaves_cells_without_evidence_out_works(cells: mudata.MuData) -> None:
    kinds = {"rna": "nb", "atac": "bernoulli", "prot": "nb"}
    lacking = {"rna": range(6), "prot": range(4, 9)}
    three = register(make_cells(kinds, lacking=lacking), kinds)
    trained = train(make_model(three), 1)
    with pytest.raises(InputError, match=r"2 of 40 cells") as caught:
        trained.get_normalized("atac", given=["prot", "rna"])
    line = str(caught.value).partition("Ask about the others: indices=")[2]
    chosen = eval(line, {"mdata": three})
    assert trained.get_normalized("atac", indices=chosen, given=["prot", "rna"]).shape == (38, 10)
