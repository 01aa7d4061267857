"""Objects that cannot be used as they are: what the error says, and how it is mended. Rows 1 to 16."""

from __future__ import annotations

import warnings

import mudata
import numpy as np
import pytest

from multiomics_vae.data.registration import SetupOptions, read, register
from multiomics_vae.errors import InputError, MultiomicsWarning
from strategies import make_mdata, modality, values_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


def test_row_01_other_row_order_is_paired_by_name() -> None:
    mdata = make_mdata()
    straight = register(mdata)
    order = np.random.default_rng(1).permutation(mdata.n_obs)
    mdata.mod["atac"] = mdata["atac"][order].copy()  # without update(): positional maps are stale now
    data = register(mdata)
    part, before = data.modalities[1], straight.modalities[1]
    np.testing.assert_array_equal(
        part.values.toarray()[part.row_of_cell], before.values.toarray()[before.row_of_cell]
    )
    assert not np.array_equal(part.values.toarray(), before.values.toarray())


def test_row_02_missing_cells_are_masked() -> None:
    data = register(make_mdata(lacking={"rna": (0, 5), "atac": (3,)}))
    assert data.n_cells == 12
    lacking = {str(name): row for name, row in zip(data.cell_names, data.present.tolist(), strict=True)}
    assert lacking["c0"] == lacking["c5"] == [False, True]
    assert lacking["c3"] == [True, False]
    assert sum(map(sum, lacking.values())) == 21


def test_row_03_cell_measured_by_no_modality() -> None:
    mdata = make_mdata(lacking={"rna": (0, 5)})
    with pytest.raises(InputError, match=r"2 of 12 cells.*'c0', 'c5'.*mdata\[~mdata\.obs_names\.isin"):
        register(mdata, SetupOptions(modalities=("rna",)))
    kept = mdata[~mdata.obs_names.isin(["c0", "c5"])].copy()
    assert register(kept, SetupOptions(modalities=("rna",))).n_cells == 10


def test_row_03_many_cells_measured_by_no_modality() -> None:
    mdata = make_mdata(40, lacking={"rna": range(25)})
    with pytest.raises(InputError, match=r"25 of 40 cells.*np\.concatenate\(\[mdata\['rna'\]\.obs_names\]\)"):
        register(mdata, SetupOptions(modalities=("rna",)))
    kept = mdata[mdata.obs_names.isin(np.concatenate([mdata["rna"].obs_names]))].copy()
    assert register(kept, SetupOptions(modalities=("rna",))).n_cells == 15


def test_row_04_disjoint_modalities_warn_once() -> None:
    mdata = make_mdata(lacking={"rna": range(6), "atac": range(6, 12)})
    with pytest.warns(MultiomicsWarning, match="no shared cells") as caught:
        data = register(mdata)
    assert len([entry for entry in caught if "no shared cells" in str(entry.message)]) == 1
    assert data.present.sum(1).tolist() == [1] * 12


def test_row_04_partly_shared_cells_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", MultiomicsWarning)
        register(make_mdata(lacking={"rna": range(6)}))


def test_row_05_duplicate_obs_names() -> None:
    mdata = make_mdata()
    rna = mdata["rna"].copy()
    rna.obs_names = ["c1", *rna.obs_names[1:]]
    with pytest.raises(InputError, match=r"obs_names has repeated names: 'c1'.*obs\['sample'\]"):
        register(mudata.MuData({"rna": rna, "atac": mdata["atac"]}))


def test_row_06_duplicate_var_names() -> None:
    mdata = make_mdata()
    mdata["rna"].var_names = ["g", "g", "h", "i", "j"]
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.var_names.*'g'.*var_names_make_unique\(\)"):
        register(mdata)


def test_row_07_same_feature_name_in_two_modalities() -> None:
    mdata = make_mdata()
    for adata in mdata.mod.values():
        adata.var_names = list("uvwxy")
    data = register(mdata)
    assert [entry.features for entry in data.schema.modalities] == [tuple("uvwxy")] * 2


def test_row_08_subset_without_update() -> None:
    mdata = make_mdata()
    mdata.mod["rna"] = mdata["rna"][:7].copy()
    with pytest.raises(InputError, match=r"mdata\['rna'\] has 7 cells.*told of 12.*`mdata\.update\(\)`"):
        register(mdata)
    mdata.update()
    assert register(mdata).present.sum(0).tolist() == [7, 12]


def test_row_08_replaced_by_unknown_cells() -> None:
    mdata = make_mdata()
    mdata["rna"].obs_names = [f"x{i}" for i in range(12)]
    with pytest.raises(InputError, match=r"does not know 'x0'.*`mdata\.update\(\)`"):
        register(mdata)


def test_row_09_view_registers_like_its_copy() -> None:
    mdata = make_mdata(lacking={"atac": (2, 3)})
    view = mdata[[1, 2, 3, 8, 11]]
    assert view.is_view
    data, copied = register(view), register(view.copy())
    assert view.is_view
    assert data.cell_names.tolist() == copied.cell_names.tolist()
    for part, other in zip(data.modalities, copied.modalities, strict=True):
        np.testing.assert_array_equal(part.values.toarray(), other.values.toarray())
        np.testing.assert_array_equal(part.row_of_cell, other.row_of_cell)


def test_row_10_anndata() -> None:
    with pytest.raises(InputError, match=r"mudata\.MuData\(\{\"rna\": adata\}\)"):
        register(make_mdata()["rna"])


def test_row_10_modalities_that_share_features() -> None:
    rna = make_mdata()["rna"]
    other = rna.copy()
    other.obs_names = [f"x{name}" for name in other.obs_names]
    with pytest.raises(InputError, match=r"axis 1.*mudata\.MuData\(dict\(mdata\.mod\)\)"):
        register(mudata.MuData({"a": rna, "b": other}, axis=1))


@pytest.mark.parametrize("thing", [None, "file.h5mu", {"rna": 1}])
def test_row_10_something_else(thing: object) -> None:
    with pytest.raises(InputError, match=r"Expected a MuData, got .*mudata\.MuData"):
        register(thing)


def test_row_10_nested_mudata() -> None:
    mdata = make_mdata()
    with pytest.raises(InputError, match=r"mdata\['both'\] is a MuData.*Take one"):
        register(mudata.MuData({"both": mdata, "rna": mdata["rna"]}))


@pytest.mark.parametrize("argument", ["likelihoods", "layers", "coverage_layers"])
def test_row_11_modality_typo(argument: str) -> None:
    with pytest.raises(InputError, match=rf"`{argument}` names a modality 'rma'\. Did you mean 'rna'"):
        register(make_mdata(), SetupOptions(**{argument: {"rma": "nb"}}))


def test_row_11_modality_typo_in_the_list() -> None:
    with pytest.raises(InputError, match=r"`modalities` names a modality 'atack'\. Did you mean 'atac'"):
        register(make_mdata(), SetupOptions(modalities=["atack"]))
    with pytest.raises(InputError, match=r"`modalities` must be a list.*\['rna'\]"):
        register(make_mdata(), SetupOptions(modalities="rna"))
    with pytest.raises(InputError, match=r"`modalities` is empty.*\['rna', 'atac'\]"):
        register(make_mdata(), SetupOptions(modalities=[]))


@pytest.mark.parametrize("name", ["..", "obs", "a:b", "a/b", "", "a.b", "/abs"])
def test_row_12_odd_modality_names_are_only_names(name: str) -> None:
    mdata = make_mdata(kinds={name: "counts", "atac": "binary"})
    data = register(mdata)
    assert data.schema.modality_names == (name, "atac")
    assert read(mdata, data.schema).present.all()


def test_row_12_modality_name_that_is_no_string() -> None:
    mdata = make_mdata()
    mdata.mod[1] = mdata["rna"]
    with pytest.raises(InputError, match=r"called 1, a int.*str\(name\)"):
        register(mdata)


def test_row_13_no_cells() -> None:
    with pytest.raises(InputError, match=r"0 cells.*mdata\.n_obs"):
        register(make_mdata()[[]].copy())


def test_row_13_no_cells_in_one_modality() -> None:
    mdata = make_mdata(lacking={"rna": range(12)})
    with pytest.raises(InputError, match=r"mdata\['rna'\] has 0 cells.*modalities=\('atac',\)"):
        register(mdata)


@pytest.mark.parametrize("n_cells", [1, 2])
def test_row_14_too_few_cells_to_register_but_not_to_read(n_cells: int) -> None:
    few = make_mdata()[range(n_cells)].copy()
    with pytest.raises(InputError, match=rf"has {n_cells} cell.*at least 3"):
        register(few)
    assert read(few, register(make_mdata()).schema).n_cells == n_cells


def test_row_15_no_features() -> None:
    mdata = make_mdata()
    empty = mudata.MuData({"rna": mdata["rna"][:, []].copy(), "atac": mdata["atac"]})
    with pytest.raises(InputError, match=r"mdata\['rna'\] has 0 features.*modalities=\('atac',\)"):
        register(empty)


def test_row_15_one_feature() -> None:
    data = register(make_mdata(n_features=1))
    assert [part.values.shape for part in data.modalities] == [(12, 1), (12, 1)]


def test_row_16_x_is_none() -> None:
    values = values_of(np.random.default_rng(0), "real", 4, 3, 0.0)
    adata = modality(None, list("abcd"), list("uvw"), one=values, two=values)
    mdata = mudata.MuData({"rna": adata})
    with pytest.raises(
        InputError, match=r"mdata\['rna'\]\.X is None.*'one', 'two'.*layers=\{\"rna\": \"one\"\}"
    ):
        register(mdata)
    assert register(mdata, SetupOptions(layers={"rna": "two"})).schema.modalities[0].layer == "two"
    adata.layers["raw_counts"] = np.round(np.abs(values))
    assert register(mdata).schema.modalities[0].layer == "raw_counts"


def test_row_16_layer_missing() -> None:
    mdata = make_mdata()
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    with pytest.raises(InputError, match=r"mdata\['rna'\]\.layers\['count'\] does not exist.*'counts'"):
        register(mdata, SetupOptions(layers={"rna": "count"}))


def test_row_70_unknown_likelihood() -> None:
    with pytest.raises(InputError, match=r"no likelihood called 'berunoulli'\. Did you mean 'bernoulli'"):
        register(make_mdata(), SetupOptions(likelihoods={"atac": "berunoulli"}))
    with pytest.raises(InputError, match=r"`likelihoods` must be a dictionary.*\{\"rna\""):
        register(make_mdata(), SetupOptions(likelihoods="nb"))
