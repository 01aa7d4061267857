"""Matrices that cannot be used as they are, or only after care. Rows 17 to 30."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from multiomics_vae.data import matrices
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.registration import SetupOptions, read, register
from multiomics_vae.data.sources import Source
from multiomics_vae.errors import InputError, MultiomicsWarning
from strategies import in_form, make_mdata, modality, values_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
CELLS, GENES = [f"c{i}" for i in range(6)], [f"g{j}" for j in range(8)]
COUNTS = values_of(np.random.default_rng(3), "counts", 6, 8, zeros=0.5)
SOURCE = Source("rna", None, pd.Index(CELLS), pd.Index(GENES))


def of(values: object, name: str = "rna", **layers: object) -> mudata.MuData:
    return mudata.MuData({name: modality(values, CELLS, GENES, **layers)})


def dense(data: MultimodalData) -> np.ndarray:
    values = data.modalities[0].values
    return values if isinstance(values, np.ndarray) else values.toarray()


def with_fault(value: float, store: Callable[[np.ndarray], object]) -> mudata.MuData:
    values = COUNTS.copy()
    values[4, 6] = values[5, 1] = value
    return of(store(values))


STORES = pytest.mark.parametrize("store", [np.asarray, sp.csr_matrix, sp.csc_matrix, np.asfortranarray])
MEND = r"layers=\{\"rna\": \"counts\"\}.*likelihoods=\{\"rna\": \"gaussian\"\}"
FAULTS = pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(np.nan, "nan, a missing value", id="row_17"),
        pytest.param(np.inf, "inf, infinite", id="row_18"),
        pytest.param(-1.0, "-1, negative", id="row_19"),
        pytest.param(2.5, "2.5, not a whole number", id="row_20"),
    ],
)


@STORES
@FAULTS
@pytest.mark.parametrize("options", [SetupOptions(), SetupOptions(likelihoods={"rna": "nb"})])
def test_row_17_to_20_one_value_that_is_no_count(
    value: float, says: str, store: Callable[[np.ndarray], object], options: SetupOptions
) -> None:
    place = r"mdata\['rna'\]\.X must hold counts.*cell 'c4', feature 'g6' is "
    with pytest.raises(InputError, match=place + says + ".*" + MEND):
        register(with_fault(value, store), options)


def test_row_17_nan_in_real_values_is_masked() -> None:
    data = register(with_fault(np.nan, np.asarray), SetupOptions(likelihoods={"rna": "gaussian"}))
    observed = data.modalities[0].observed
    assert observed is not None
    assert np.argwhere(~observed).tolist() == [[4, 6], [5, 1]]
    assert np.isfinite(data.modalities[0].values).all()


def test_row_18_infinity_in_real_values() -> None:
    values = COUNTS / 7
    values[2, 3] = -np.inf
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.X: cell 'c2', feature 'g3' is -inf.*np\.isinf"):
        register(of(values))
    values = (COUNTS / 7).astype(np.float64)
    values[2, 3] = 1e300
    with pytest.raises(InputError, match=r"cell 'c2', feature 'g3' is inf in float32"):
        register(of(values))


def test_row_19_negative_integers() -> None:
    values = COUNTS.astype(np.int64)
    values[1, 2] = -3
    with pytest.raises(InputError, match=r"cell 'c1', feature 'g2' is -3, negative"):
        register(of(values))


def test_row_20_normalised_values_under_nb_name_the_layer() -> None:
    mdata = of(np.log1p(COUNTS), counts=np.log1p(COUNTS))
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.layers\['counts'\] must hold counts"):
        register(mdata, SetupOptions(likelihoods={"rna": "nb"}, layers={"rna": "counts"}))
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.X must hold counts.*not a whole number.*" + MEND):
        register(mdata, SetupOptions(likelihoods={"rna": "nb"}))
    assert register(mdata).schema.modalities[0].likelihood == "gaussian"


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "uint8", "int16", "float16", ">f4", "uint64"])
@pytest.mark.parametrize("form", ["dense", "csr"])
def test_row_21_22_any_number_type_gives_the_same(dtype: str, form: str) -> None:
    if dtype in ("float16", ">f4") and form == "csr":
        form = "fortran"  # scipy has no such sparse matrix
    data, plain = register(of(in_form(COUNTS, dtype, form))), register(of(COUNTS))
    np.testing.assert_array_equal(dense(data), dense(plain))
    np.testing.assert_array_equal(data.modalities[0].depth, plain.modalities[0].depth)
    assert data.modalities[0].values.dtype == np.float32
    assert data.modalities[0].values.dtype.isnative


def test_row_22_sum_of_small_integers_does_not_wrap() -> None:
    values = np.full((6, 8), 200, dtype=np.uint8)
    for stored in (values, sp.csr_matrix(values)):
        assert register(of(stored)).modalities[0].depth.tolist() == [1600.0] * 6
    twice = sp.csr_matrix((np.full(12, 200, np.uint8), np.zeros(12, int), np.arange(0, 13, 2)), shape=(6, 8))
    assert dense(register(of(twice)))[:, 0].tolist() == [400.0] * 6


def test_row_22_float16_overflow() -> None:
    values = (COUNTS * 20000).astype(np.float64)
    with np.errstate(over="ignore"):
        small = values.astype(np.float16)
    with pytest.raises(InputError, match=r"inf, infinite \(float16 ends at 65504.*float32"):
        register(of(small))


@pytest.mark.parametrize("largest", [2.0**24 + 2, 1e30])
def test_row_23_counts_beyond_exact_float32_warn(largest: float) -> None:
    values = COUNTS.copy()
    values[0, 0] = largest
    with pytest.warns(MultiomicsWarning, match=r"mdata\['rna'\]\.X.*2\*\*24"):
        data = register(of(values))
    assert np.isfinite(data.modalities[0].depth).all()


def test_row_24_sparse_arrays() -> None:
    for kind in (sp.csr_array, sp.csc_array):
        found = register(of(kind(COUNTS))).modalities[0].values
        assert isinstance(found, sp.csr_matrix)
        np.testing.assert_array_equal(found.toarray(), COUNTS)


@pytest.mark.parametrize("form", ["csc", "unsorted", "duplicates", "stored_zeros"])
def test_row_25_uncanonical_input_is_put_right_in_a_copy(form: str) -> None:
    given = in_form(COUNTS, "float32", form)
    mdata = of(given)
    stored = mdata["rna"].X
    before = [array.copy() for array in (stored.data, stored.indices, stored.indptr)]
    values = register(mdata).modalities[0].values
    np.testing.assert_array_equal(dense(register(mdata)), COUNTS)
    assert isinstance(values, sp.csr_matrix)
    assert values.has_canonical_format
    assert (values.data != 0).all()
    for array, old in zip((stored.data, stored.indices, stored.indptr), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_row_25_containers_that_anndata_refuses() -> None:
    """Layers and later versions may hold what today's AnnData does not take as X."""
    containers = (sp.coo_matrix, sp.lil_matrix, sp.coo_array, sp.bsr_matrix, np.asmatrix, pd.DataFrame)
    for given in (container(COUNTS) for container in containers):
        found = matrices.plain(given, SOURCE)
        np.testing.assert_array_equal(matrices.dense(found), COUNTS)


def test_row_26_read_only_memory_map_is_untouched(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", COUNTS + 1)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = register(of(mapped))
    np.testing.assert_array_equal(dense(data), COUNTS + 1)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), COUNTS + 1)


@pytest.mark.parametrize("form", ["fortran", "strided", "read_only"])
def test_row_26_layout_does_not_matter(form: str) -> None:
    values = in_form(COUNTS + 1, "float32", form)
    data = register(of(values))
    np.testing.assert_array_equal(dense(data), COUNTS + 1)
    assert dense(data).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("dtype", ["complex64", "object", "datetime64[s]"])
def test_row_27_values_that_are_no_real_numbers(dtype: str) -> None:
    with pytest.raises(InputError, match=rf"mdata\['rna'\]\.X has dtype {dtype[:6]}.*astype\('float32'\)"):
        register(of(COUNTS.astype("int64").astype(dtype)))


def test_row_27_masked_array() -> None:
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.X is a masked array.*filled\(np\.nan\)"):
        matrices.plain(np.ma.masked_array(COUNTS, COUNTS > 3), SOURCE)


def test_row_27_strings_and_foreign_containers() -> None:
    with pytest.raises(InputError, match=r"dtype <U"):
        matrices.plain(COUNTS.astype(str), SOURCE)
    with pytest.raises(InputError, match=r"is a builtins\.list.*Read it into memory"):
        matrices.plain(COUNTS.tolist(), SOURCE)


@pytest.mark.parametrize("store", [np.asarray, sp.csr_matrix])
def test_row_27_bool_is_bernoulli(store: Callable[[np.ndarray], object]) -> None:
    data = register(of(store(COUNTS > 0), "mut"))
    assert data.schema.modalities[0].likelihood == "bernoulli"
    np.testing.assert_array_equal(dense(data), COUNTS > 0)


def test_row_28_zero_library_cells_warn_with_their_number() -> None:
    values = COUNTS.copy()
    values[[1, 4]] = 0
    with pytest.warns(MultiomicsWarning, match=r"mdata\['rna'\]\.X: 2 of 6 cells have no count"):
        data = register(of(values))
    depth = data.modalities[0].depth
    assert depth[[1, 4]].tolist() == [1.0, 1.0]
    assert np.isfinite(np.log(depth)).all()
    assert data.present.all(), "a row of zeros is a measurement, not a missing one"


def test_row_29_all_zero_feature_is_kept() -> None:
    values = COUNTS.copy()
    values[:, 3] = 0
    data = register(of(values))
    assert dense(data)[:, 3].tolist() == [0.0] * 6
    assert len(data.schema.modalities[0].features) == 8


METH = SetupOptions(coverage_layers={"meth": "coverage"})


@pytest.mark.parametrize("store", [np.asarray, sp.csr_matrix])
def test_row_30_coverage_of_zero_is_no_observation(store: Callable[[np.ndarray], object]) -> None:
    coverage = COUNTS * 2
    mdata = of(store(COUNTS), "meth", coverage=store(coverage))
    data = register(mdata, METH)
    part = data.modalities[0]
    assert data.schema.modalities[0].likelihood == "beta_binomial"
    assert part.coverage is not None
    np.testing.assert_array_equal(matrices.dense(part.coverage), coverage)
    assert (matrices.dense(part.values)[matrices.dense(part.coverage) == 0] == 0).all()
    np.testing.assert_array_equal(part.depth, np.maximum(coverage.sum(1), 1))
    reversed_order = mdata[:, list(reversed(mdata.var_names))].copy()
    again = read(reversed_order, data.schema).modalities[0]
    assert again.coverage is not None
    np.testing.assert_array_equal(matrices.dense(again.coverage), coverage)


@pytest.mark.parametrize("store", [np.asarray, sp.csr_matrix])
def test_row_30_more_methylated_than_covered(store: Callable[[np.ndarray], object]) -> None:
    values, coverage = COUNTS.copy(), COUNTS + 1
    values[2, 5], coverage[2, 5] = 4, 3
    with pytest.raises(
        InputError,
        match=r"cell 'c2', feature 'g5': mdata\['meth'\]\.X is 4.*3 in mdata\['meth'\]\.layers\['cov",
    ):
        register(of(store(values), "meth", coverage=store(coverage)), METH)


def test_row_30_coverage_and_likelihood_belong_together() -> None:
    mdata = of(COUNTS, "meth", coverage=COUNTS)
    with pytest.raises(InputError, match=r"needs the coverage.*coverage_layers=\{\"meth\": \"coverage\"\}"):
        register(mdata, SetupOptions(likelihoods={"meth": "beta_binomial"}))
    with pytest.raises(InputError, match=r"'nb' has no use for the coverage layer 'coverage'.*beta_binomial"):
        register(mdata, SetupOptions(likelihoods={"meth": "nb"}, coverage_layers={"meth": "coverage"}))
    with pytest.raises(InputError, match=r"mdata\['meth'\]\.layers\['cover'\] does not exist.*'coverage'"):
        register(mdata, SetupOptions(coverage_layers={"meth": "cover"}))


def test_codes_may_have_gaps_but_no_fractions() -> None:
    values = (COUNTS % 3).astype(np.float32)
    values[1, 1] = np.nan
    options = SetupOptions(likelihoods={"clinic": "categorical"})
    data = register(of(values, "clinic"), options)
    assert data.modalities[0].observed is not None
    assert data.modalities[0].depth.tolist() == [1.0] * 6
    values[1, 1] = 0.5
    with pytest.raises(InputError, match=r"cell 'c1', feature 'g1' is 0.5"):
        register(of(values, "clinic"), options)


def test_fault_beyond_the_first_block_of_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiomics_vae.data.scan._BLOCK", 5)
    for store in (np.asarray, sp.csr_matrix):
        with pytest.raises(InputError, match=r"cell 'c4', feature 'g6' is -1, negative"):
            register(with_fault(-1.0, store))


def test_view_with_fewer_rows_names_its_own_cells() -> None:
    mdata = make_mdata()
    mdata["rna"].X[5, 2] = -2
    with pytest.raises(InputError, match=r"cell 'c5', feature 'rna:f2' is -2"):
        register(mdata[[3, 5, 7]])
