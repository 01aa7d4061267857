"""Columns of obs, and other cells under a schema that exists. Rows 31 to 38."""

from __future__ import annotations

import warnings
from dataclasses import replace

import mudata
import numpy as np
import pandas as pd
import pytest

from multiomics_vae.data.registration import SetupOptions, read, register
from multiomics_vae.errors import InputError, MultiomicsWarning
from strategies import make_mdata

BATCH = SetupOptions(batch_key="batch")
ARGUMENT = {
    "batch_key": lambda key: SetupOptions(batch_key=key),
    "categorical_covariate_keys": lambda key: SetupOptions(categorical_covariate_keys=[key]),
    "continuous_covariate_keys": lambda key: SetupOptions(continuous_covariate_keys=[key]),
    "size_factor_key": lambda key: SetupOptions(size_factor_key=key),
}


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize("role", ["batch_key", "categorical_covariate_keys"])
def test_row_31_category_missing(mdata: mudata.MuData, missing: object, role: str) -> None:
    mdata.obs["site"] = [missing, *("xy" * 6)[1:]]
    with pytest.raises(InputError, match=rf"`{role}`.*'site'.*1 of 12.*'c0'.*fillna\(\"unknown\"\)"):
        register(mdata, ARGUMENT[role]("site"))
    mdata.obs["site"] = mdata.obs["site"].astype(object).fillna("unknown")
    with pytest.warns(MultiomicsWarning, match="single cell"):
        register(mdata, ARGUMENT[role]("site"))


def test_row_31_category_missing_in_a_pandas_categorical(mdata: mudata.MuData) -> None:
    mdata.obs.loc["c3", "batch"] = np.nan
    with pytest.raises(InputError, match=r"'batch'.*'c3'.*fillna"):
        register(mdata, BATCH)


def test_row_32_continuous_batch(mdata: mudata.MuData) -> None:
    mdata.obs["batch"] = np.linspace(0, 1, 12)
    with pytest.raises(InputError, match=r"'batch' is continuous, with 12 distinct values.*astype\(str\)"):
        register(mdata, BATCH)
    mdata.obs["batch"] = mdata.obs["batch"].astype(str)
    with pytest.warns(MultiomicsWarning, match="single cell"):
        assert register(mdata, BATCH).schema.n_batches == 12


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        ([10, 9, 9] * 4, ("9", "10")),
        ([1.0, 2.0, 1.0] * 4, ("1", "2")),
        ([True, False, True] * 4, ("False", "True")),
        (["z", "a", "z"] * 4, ("a", "z")),
        (pd.Categorical(["z", "a", "z"] * 4, categories=["z", "unused", "a"]), ("z", "a")),
        (pd.array(["z", "a", "z"] * 4, dtype="string"), ("a", "z")),
    ],
)
def test_row_33_groups_of_any_type_and_no_unused_ones(values: object, categories: tuple[str, ...]) -> None:
    mdata = make_mdata()
    mdata.obs["batch"] = values
    data = register(mdata, BATCH)
    assert data.schema.batch is not None
    assert data.schema.batch.categories == categories
    back = [data.schema.batch.categories[code] for code in data.batch]
    assert back == [
        str(int(value)) if isinstance(value, float) else str(value) for value in mdata.obs["batch"]
    ]


def test_row_33_category_of_one_cell_warns(mdata: mudata.MuData) -> None:
    mdata.obs["batch"] = ["lonely", *["b"] * 11]
    with pytest.warns(MultiomicsWarning, match=r"'batch'.*single cell: 'lonely'"):
        register(mdata, BATCH)


def test_category_that_reads_like_a_gap_warns(mdata: mudata.MuData) -> None:
    mdata.obs["batch"] = ["nan", "II", "I"] * 4
    with pytest.warns(MultiomicsWarning, match=r"category 'nan', which reads like a missing value"):
        register(mdata, BATCH)


def test_row_34_batch_that_decides_the_modalities() -> None:
    mdata = make_mdata(lacking={"rna": range(0, 12, 2)})
    with pytest.warns(MultiomicsWarning, match=r"'batch' decides which modalities.*2 sets"):
        register(mdata, BATCH)
    for harmless in (make_mdata(), make_mdata(lacking={"rna": range(0, 6)})):
        with warnings.catch_warnings():
            warnings.simplefilter("error", MultiomicsWarning)
            register(harmless, BATCH)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_row_35_continuous_covariate_not_finite(mdata: mudata.MuData, value: float) -> None:
    mdata.obs.loc["c7", "age"] = value
    with pytest.raises(
        InputError, match=r"`continuous_covariate_keys`.*'age' is (nan|inf).*'c7'.*replace\(.*fillna\("
    ):
        register(mdata, SetupOptions(continuous_covariate_keys=["age"]))


def test_row_35_constant_covariate_warns(mdata: mudata.MuData) -> None:
    mdata.obs["age"] = 0.1
    with pytest.warns(MultiomicsWarning, match=r"'age' is 0.1 in every cell"):
        data = register(mdata, SetupOptions(continuous_covariate_keys=["age"]))
    assert data.schema.continuous[0].sd == 1.0
    np.testing.assert_allclose(data.continuous, 0.0, atol=1e-6)


def test_row_35_covariate_of_words(mdata: mudata.MuData) -> None:
    with pytest.raises(InputError, match=r"'donor' has dtype .*pd\.to_numeric"):
        register(mdata, SetupOptions(continuous_covariate_keys=["donor"]))


@pytest.mark.parametrize("role", ARGUMENT)
def test_row_70_column_typo(mdata: mudata.MuData, role: str) -> None:
    with pytest.raises(InputError, match=rf"`{role}`.*no column 'dnor'.*Did you mean 'donor'"):
        register(mdata, ARGUMENT[role]("dnor"))


def test_row_70_column_named_twice_or_not_by_a_name(mdata: mudata.MuData) -> None:
    with pytest.raises(InputError, match=r"'batch' is named twice.*Leave it in one"):
        register(mdata, SetupOptions(batch_key="batch", categorical_covariate_keys=["donor", "batch"]))
    with pytest.raises(InputError, match=r"`categorical_covariate_keys` must be a list.*\['donor'\]"):
        register(mdata, SetupOptions(categorical_covariate_keys="donor"))
    with pytest.raises(InputError, match=r"`batch_key` must be the name of a column"):
        register(mdata, SetupOptions(batch_key=3))


def test_column_of_the_modalities_is_joined_by_name() -> None:
    mdata = make_mdata(lacking={"rna": (0, 1), "atac": (10, 11)})
    for adata in mdata.mod.values():
        order = [int(name[1:]) for name in adata.obs_names]
        adata.obs["site"] = pd.Categorical([f"s{i // 4}" for i in order])
    data = register(mdata, SetupOptions(batch_key="site"))
    assert data.schema.batch is not None
    expected = [f"s{int(name[1:]) // 4}" for name in data.cell_names]
    assert [data.schema.batch.categories[code] for code in data.batch] == expected


def test_mending_line_starts_from_where_the_column_is() -> None:
    """A column that only modalities have is mended into ``mdata.obs`` by the line in the error."""
    mdata = make_mdata(lacking={"rna": (0, 1), "atac": (10, 11)})
    for adata in mdata.mod.values():
        adata.obs["site"] = [f"s{int(name[1:]) % 2}" for name in adata.obs_names]
        adata.obs.loc["c5", "site"] = np.nan
    with pytest.raises(InputError, match=r"'site' has no value for 1 of 12 cells: 'c5'") as caught:
        register(mdata, SetupOptions(batch_key="site"))
    exec(str(caught.value).split("`")[-2], {"mdata": mdata})
    with pytest.warns(MultiomicsWarning, match="'unknown'"):
        data = register(mdata, SetupOptions(batch_key="site"))
    assert data.schema.batch is not None
    assert data.schema.batch.categories == ("s0", "s1", "unknown")
    assert np.bincount(data.batch).tolist() == [6, 5, 1]


def test_column_that_modalities_disagree_about(mdata: mudata.MuData) -> None:
    mdata["rna"].obs["site"], mdata["atac"].obs["site"] = ["x", "y"] * 6, ["x", "y"] * 5 + ["y", "y"]
    with pytest.raises(InputError, match=r"'site' differs.*1 cells: cell 'c10' is 'x'.*'rna'.*'y'.*'atac'"):
        register(mdata, SetupOptions(batch_key="site"))
    assert register(mdata, SetupOptions(batch_key="atac:site")).schema.n_batches == 2


def test_row_36_unseen_category(mdata: mudata.MuData) -> None:
    schema = register(mdata, SetupOptions(batch_key="batch", categorical_covariate_keys=["donor"])).schema
    mdata.obs["batch"] = ["b0", "b7"] * 6
    with pytest.raises(InputError, match=r"`batch_key`.*not registered with: 'b7'.*Allowed: 'b0', 'b1'"):
        read(mdata, schema)
    mdata.obs["batch"] = ["b1"] * 12
    assert set(read(mdata, schema).batch) == {1}
    mdata.obs["donor"] = "new"
    with pytest.raises(InputError, match=r"`categorical_covariate_keys`.*'new'.*'d0', 'd1', 'd2'"):
        read(mdata, schema)


def test_continuous_covariates_keep_the_first_mean_and_sd(mdata: mudata.MuData) -> None:
    data = register(mdata, SetupOptions(continuous_covariate_keys=["age"]))
    part = read(mdata[[9, 2]].copy(), data.schema)
    positions = [list(data.cell_names).index(name) for name in part.cell_names]
    np.testing.assert_array_equal(part.continuous, data.continuous[positions])


def test_row_37_permuted_features_are_put_in_order(mdata: mudata.MuData) -> None:
    data = register(mdata)
    order = np.random.default_rng(2).permutation(5)
    permuted = mudata.MuData({name: adata[:, order].copy() for name, adata in mdata.mod.items()})
    found = read(permuted, data.schema)
    for part, before in zip(found.modalities, data.modalities, strict=True):
        np.testing.assert_array_equal(part.values.toarray(), before.values.toarray())
        assert part.values.has_canonical_format
        np.testing.assert_array_equal(part.depth, before.depth)


def test_row_38_extra_features_are_left_out(mdata: mudata.MuData) -> None:
    schema = register(mudata.MuData({"rna": mdata["rna"][:, [3, 0]].copy()})).schema
    found = read(mdata, schema)
    np.testing.assert_array_equal(found.modalities[0].values.toarray(), mdata["rna"].X.toarray()[:, [3, 0]])


def test_row_38_missing_features_are_counted_and_named(mdata: mudata.MuData) -> None:
    schema = register(mdata).schema
    fewer = mudata.MuData({"rna": mdata["rna"][:, 2:].copy(), "atac": mdata["atac"]})
    with pytest.raises(
        InputError, match=r"mdata\['rna'\] lacks 2 of the 5 features \(40 %\).*'rna:f0', 'rna:f1'"
    ):
        read(fewer, schema)
    bare = mdata["rna"].copy()
    bare.var_names = bare.var_names.str.removeprefix("rna:")
    with pytest.raises(
        InputError, match=r"differ by the prefix 'rna:'.*var_names = 'rna:' \+ mdata\['rna'\]"
    ):
        read(mudata.MuData({"rna": bare}), schema)
    bare_schema = replace(schema.modalities[0], features=tuple(bare.var_names))
    with pytest.raises(InputError, match=r"removeprefix\('rna:'\)"):
        read(mdata, replace(schema, modalities=(bare_schema,)))


def test_read_wants_the_registered_columns_and_layers(mdata: mudata.MuData) -> None:
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    schema = register(mdata, SetupOptions(batch_key="batch", layers={"rna": "counts"})).schema
    other = make_mdata()
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.layers\['counts'\] does not exist"):
        read(other, schema)
    other["rna"].layers["counts"] = other["rna"].X.copy()
    del other.obs["batch"]
    with pytest.raises(InputError, match=r"`batch_key`: there is no column 'batch'"):
        read(other, schema)
