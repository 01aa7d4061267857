"""What registration makes of ordinary and of odd data, and that it changes nothing of the user's."""

from __future__ import annotations

import contextlib
import copy
import warnings
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.describe import describe
from multiomics_vae.data.registration import SetupOptions, read, register
from multiomics_vae.data.sources import Matrix
from multiomics_vae.errors import InputError, MultiomicsError
from strategies import Drawn, make_mdata, modality, mudatas

ALL_COLUMNS = SetupOptions(
    batch_key="batch",
    categorical_covariate_keys=("donor",),
    continuous_covariate_keys=("age",),
    size_factor_key="factor",
)


def by_cell(data: MultimodalData, modality: int, values: Matrix | None = None) -> dict[str, np.ndarray]:
    """Values of every cell that has the modality, by its name."""
    part = data.modalities[modality]
    values = part.values if values is None else values
    dense = values if isinstance(values, np.ndarray) else values.toarray()
    return {
        str(name): dense[row] for name, row in zip(data.cell_names, part.row_of_cell, strict=True) if row >= 0
    }


def assert_same(first: MultimodalData, second: MultimodalData) -> None:
    """Equal for every cell by name, whatever the order of cells and rows."""
    assert set(first.cell_names) == set(second.cell_names)
    assert first.schema.modality_names == second.schema.modality_names
    for m in range(len(first.modalities)):
        assert first.schema.modalities[m].features == second.schema.modalities[m].features
        assert first.schema.modalities[m].likelihood == second.schema.modalities[m].likelihood
        mine, other = by_cell(first, m), by_cell(second, m)
        assert mine.keys() == other.keys()
        for name in mine:
            np.testing.assert_array_equal(mine[name], other[name])
        depths = [by_cell(data, m, data.modalities[m].depth[:, None]) for data in (first, second)]
        assert depths[0] == depths[1]


def test_counts_and_columns_are_what_the_mudata_holds(mdata: mudata.MuData) -> None:
    data = register(mdata, ALL_COLUMNS)
    rna = mdata["rna"].X.toarray()
    np.testing.assert_array_equal(data.modalities[0].values.toarray(), rna)
    assert [entry.likelihood for entry in data.schema.modalities] == ["nb", "bernoulli"]
    assert data.schema.batch is not None
    assert [data.schema.batch.categories[code] for code in data.batch] == list(mdata.obs["batch"])
    donors = [data.schema.categorical[0].categories[code] for code in data.categorical[:, 0]]
    assert donors == list(mdata.obs["donor"])
    age = mdata.obs["age"].to_numpy()
    np.testing.assert_allclose(data.continuous[:, 0], (age - age.mean()) / age.std(), rtol=1e-6)
    peaks = mdata["atac"].X.toarray()
    np.testing.assert_array_equal(data.modalities[1].depth, (peaks > 0).sum(1))


def test_size_factors_keep_their_ratios_and_the_mean_library(mdata: mudata.MuData) -> None:
    data = register(mdata, SetupOptions(size_factor_key="factor"))
    library = mdata["rna"].X.sum(1).A1
    factors = mdata.obs["factor"].to_numpy()
    depth = data.modalities[0].depth
    np.testing.assert_allclose(depth / depth[0], factors / factors[0], rtol=1e-6)
    np.testing.assert_allclose(depth.mean(), library.mean(), rtol=1e-6)
    assert not data.schema.modalities[0].depth_from_values
    again = read(mdata[[3, 1]].copy(), data.schema)
    by_name = dict(zip(data.cell_names, depth, strict=True))
    np.testing.assert_allclose(
        [again.modalities[0].depth[row] for row in again.modalities[0].row_of_cell],
        [by_name[name] for name in again.cell_names],
        rtol=1e-6,
    )


def test_binary_values_need_no_size_factor_where_a_cell_lacks_counts() -> None:
    mdata = make_mdata(lacking={"rna": (2,)})
    mdata.obs.loc["c2", "factor"] = np.nan
    data = register(mdata, SetupOptions(size_factor_key="factor"))
    assert data.schema.modalities[1].depth_from_values
    mdata.obs.loc["c3", "factor"] = np.nan
    with pytest.raises(InputError, match=r"size_factor_key.*'factor' is nan.*'c3'"):
        register(mdata, SetupOptions(size_factor_key="factor"))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_size_factor_must_be_positive(mdata: mudata.MuData, value: float) -> None:
    mdata.obs.loc["c3", "factor"] = value
    with pytest.raises(
        InputError, match=r"size_factor_key.*must be positive.*'c3'.*\(mdata\.obs\['factor'\] > 0\)"
    ):
        register(mdata, SetupOptions(size_factor_key="factor"))


def test_canonical_values_share_the_users_memory(mdata: mudata.MuData) -> None:
    data = register(mdata)
    assert np.shares_memory(data.modalities[0].values.data, mdata["rna"].X.data)


def test_dense_counts_that_are_mostly_empty_become_sparse() -> None:
    values = np.zeros((4, 6), dtype=np.float32)
    values[:, 0] = [1, 2, 3, 4]
    full = values + 1
    cells, features = list("abcd"), list("uvwxyz")
    mdata = mudata.MuData(
        {"rna": modality(values, cells, features), "prot": modality(full, cells, features[::-1])}
    )
    data = register(mdata)
    assert sp.issparse(data.modalities[0].values)
    assert isinstance(data.modalities[1].values, np.ndarray)


@pytest.mark.parametrize(
    ("name", "high", "likelihood"),
    [
        ("rna", 5, "nb"),
        ("ATAC_peaks", 5, "bernoulli"),
        ("chromatin", 5, "bernoulli"),
        ("adt", 5, "protein_mixture"),
        ("surface_protein", 5, "protein_mixture"),
        ("mutations", 1, "bernoulli"),
        ("anything", 5, "nb"),
    ],
)
def test_likelihood_is_guessed_by_values_then_name(name: str, high: int, likelihood: str) -> None:
    values = np.minimum(np.arange(20).reshape(4, 5) % 7, high)
    data = register(mudata.MuData({name: modality(values, list("abcd"), list("uvwxy"))}))
    assert data.schema.modalities[0].likelihood == likelihood
    assert data.schema.modalities[0].note
    if likelihood == "bernoulli":
        assert set(np.unique(np.stack(list(by_cell(data, 0).values())))) <= {0.0, 1.0}


def test_integer_layer_is_taken_beside_normalised_values(mdata: mudata.MuData) -> None:
    rna = mdata["rna"]
    rna.layers["umi"] = rna.X.copy()
    rna.layers["counts"] = rna.X * 2
    rna.X = rna.X.log1p()
    data = register(mdata)
    entry = data.schema.modalities[0]
    assert (entry.layer, entry.likelihood) == ("counts", "nb")
    assert "counts" in entry.note
    assert "not whole numbers" in entry.note
    del rna.layers["counts"]
    assert register(mdata).schema.modalities[0].layer == "umi"
    del rna.layers["umi"]
    assert register(mdata).schema.modalities[0].likelihood == "gaussian"


def test_several_layers_of_counts_must_be_chosen_between(mdata: mudata.MuData) -> None:
    rna = mdata["rna"]
    rna.layers["spliced"], rna.layers["unspliced"] = rna.X.copy(), rna.X.copy()
    rna.X = rna.X.log1p()
    with pytest.raises(InputError, match=r"mdata\['rna'\].*several layers.*layers=\{\"rna\": \"spliced\"\}"):
        register(mdata)
    assert (
        register(mdata, SetupOptions(layers={"rna": "unspliced"})).schema.modalities[0].layer == "unspliced"
    )


def test_real_values_with_gaps_are_masked_entry_by_entry() -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
    values[0, 1] = values[2, 2] = np.nan
    values[3] = np.nan
    other = make_mdata(4)["rna"]
    mdata = mudata.MuData({"ephys": modality(values, ["c0", "c1", "c2", "c3"], list("uvw")), "rna": other})
    data = register(mdata)
    part = data.modalities[0]
    assert part.row_of_cell.tolist() == [0, 1, 2, -1]
    assert part.observed is not None
    np.testing.assert_array_equal(part.observed, ~np.isnan(values[:3]))
    np.testing.assert_array_equal(part.values, np.nan_to_num(values[:3]))
    assert "1 cells NaN throughout" in data.schema.modalities[0].note


def test_feature_that_no_cell_has_is_refused() -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
    values[:, 1] = np.nan
    mdata = mudata.MuData({"ephys": modality(values, list("abcd"), list("uvw"))})
    with pytest.raises(InputError, match=r"mdata\['ephys'\]\.X: 1 features.*'v'.*update\(\)"):
        register(mdata)


def test_read_takes_an_absent_modality_and_its_own_data(mdata: mudata.MuData) -> None:
    data = register(mdata, ALL_COLUMNS)
    assert_same(read(mdata, data.schema), data)
    lone = mudata.MuData({"rna": mdata["rna"][:5].copy(), "extra": make_mdata(5)["atac"]})
    lone.obs = mdata.obs.loc[lone.obs_names]
    found = read(lone, data.schema)
    assert found.present.tolist() == [[True, False]] * 5
    assert found.modalities[1].values.shape == (0, 5)
    with pytest.raises(InputError, match=r"none of the registered modalities.*'extra'"):
        read(mudata.MuData({"extra": make_mdata(5)["atac"]}), data.schema)


def test_describe_says_what_was_inferred(mdata: mudata.MuData) -> None:
    data = register(mdata, ALL_COLUMNS)
    text = describe(data)
    rna = next(line for line in text.splitlines() if line.startswith("rna"))
    assert rna.split()[:5] == ["rna", "12", "5", "nb", "X"]
    assert "depth from the size factor" in rna
    assert "batch: 'batch', 2 categories" in text
    assert "12" not in describe(data.schema).splitlines()[1]


@given(mudatas())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_odd_data_register_like_the_clean_object_or_are_refused(drawn: Drawn) -> None:
    options = SetupOptions(likelihoods=drawn.likelihoods)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd, clean_object = drawn.odd, drawn.clean
        try:
            clean = register(clean_object, options)
        except MultiomicsError as error:
            with pytest.raises(type(error)):
                register(odd, options)
            return
        assert_same(register(odd, options), clean)
        assert_same(register(odd), register(clean_object))
        assert_same(read(odd, clean.schema), clean)


def snapshot(mdata: mudata.MuData) -> list[object]:
    """Everything a person can see of a MuData, copied."""
    state: list[object] = [
        mdata.obs.copy(),
        mdata.var.copy(),
        copy.deepcopy(dict(mdata.uns)),
        sorted(mdata.obsm),
    ]
    for name, adata in mdata.mod.items():
        assert isinstance(adata, anndata.AnnData)
        state += [name, adata.obs.copy(), adata.var.copy(), sorted(adata.uns), sorted(adata.obsm)]
        for values in (adata.X, *adata.layers.values()):
            arrays = (
                (values.data, values.indices, values.indptr) if sp.issparse(values) else (np.asarray(values),)
            )
            state += [type(values).__name__, values.dtype.str, *(array.copy() for array in arrays)]
    return state


def assert_unchanged(before: list[object], after: list[object]) -> None:
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        if isinstance(old, pd.DataFrame):
            pd.testing.assert_frame_equal(old, new)
        elif isinstance(old, np.ndarray):
            np.testing.assert_array_equal(old, new)
        else:
            assert old == new


@given(mudatas())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_row_67_drawn_objects_are_unchanged(drawn: Drawn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = drawn.odd
        before = snapshot(mdata)
        with contextlib.suppress(MultiomicsError):
            read(mdata, register(mdata).schema)
    assert_unchanged(before, snapshot(mdata))


def test_row_67_columns_and_random_state_are_unchanged(mdata: mudata.MuData) -> None:
    before, state = snapshot(mdata), np.random.get_state()[1].copy()  # noqa: NPY002
    read(mdata, register(mdata, ALL_COLUMNS).schema)
    assert_unchanged(before, snapshot(mdata))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = sorted(DATA.glob("*.h5mu"))


@pytest.mark.real_data
@pytest.mark.skipif(not FILES, reason="the shared real data are absent")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_real_file_registers_with_one_line(path: Path) -> None:
    mdata = mudata.read_h5mu(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = register(mdata)
    expected = {
        "ephys": "gaussian",
        "morph": "gaussian",
        "cnv": "gaussian",
        "atac": "bernoulli",
        "mut": "bernoulli",
    }
    if "tcga" in path.stem:
        expected |= {"rna": "gaussian", "prot": "gaussian"}
    for entry, part in zip(data.schema.modalities, data.modalities, strict=True):
        default = "protein_mixture" if entry.name == "prot" else "nb"
        assert entry.likelihood == expected.get(entry.name, default)
        assert np.isfinite(np.log(part.depth)).all()
        assert int((part.row_of_cell >= 0).sum()) == mdata[entry.name].n_obs
    assert data.n_cells == mdata.n_obs


def test_own_values_outlive_an_edit_in_place_of_the_users_matrix(make_mdata):
    mdata = make_mdata()
    name = next(iter(mdata.mod))
    data = register(mdata).with_own_values()
    before = data.modalities[0].values.copy()
    values = mdata[name].X
    (values.data if sp.issparse(values) else values)[:] += 1
    assert (data.modalities[0].values != before).sum() == 0
