"""The contract with scvi-tools: its manager returns what our registration holds."""

from __future__ import annotations

import gc
import random
import re
import weakref
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass

import multiomics_vae
from multiomics_vae.data.options import SetupOptions
from multiomics_vae.data.private_mudata import private_mudata
from multiomics_vae.data.registration import register
from multiomics_vae.errors import InputError
from multiomics_vae.scvi_bridge import (
    ScviModel,
    build_manager,
    coverage_key,
    registry_key,
    setup_method_args,
)
from strategies import make_mdata, modality

OPTIONS = SetupOptions(
    batch_key="batch", categorical_covariate_keys=("donor",), continuous_covariate_keys=("age",)
)


class TinyModel(ScviModel):
    """A model without a module."""

    def train(self) -> None:
        """Nothing to fit."""


def manager_of(mdata: mudata.MuData, options: SetupOptions = OPTIONS) -> AnnDataManager:
    return build_manager(register(mdata, options), setup_method_args("TinyModel", options))


@pytest.fixture
def mosaic() -> mudata.MuData:
    return make_mdata(
        kinds={"rna": "counts", "a/b": "binary", "ephys": "real"}, lacking={"rna": (0, 4), "ephys": (1, 2, 9)}
    )


def test_manager_returns_what_we_hold(mosaic: mudata.MuData) -> None:
    data = register(mosaic, OPTIONS)
    manager = build_manager(data, setup_method_args("TinyModel", OPTIONS))
    assert manager.adata.obs_names.tolist() == data.cell_names.tolist()
    for entry, part in zip(data.schema.modalities, data.modalities, strict=True):
        held = manager.get_from_registry(registry_key(entry.name))
        dense = held.toarray() if sp.issparse(held) else held
        ours = part.values.toarray() if sp.issparse(part.values) else part.values
        np.testing.assert_array_equal(dense, ours)
        private = manager.adata[entry.name]
        rows = private.obs_names.get_indexer(manager.adata.obs_names)
        np.testing.assert_array_equal(rows, part.row_of_cell)
        np.testing.assert_array_equal(manager.adata.obsm[entry.name].ravel(), part.row_of_cell >= 0)
        assert tuple(private.var_names) == entry.features
    np.testing.assert_array_equal(manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).ravel(), data.batch)
    np.testing.assert_array_equal(manager.get_from_registry(REGISTRY_KEYS.CAT_COVS_KEY), data.categorical)
    np.testing.assert_array_equal(manager.get_from_registry(REGISTRY_KEYS.CONT_COVS_KEY), data.continuous)
    mapping = manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY).categorical_mapping
    assert tuple(mapping) == data.schema.batch.categories
    assert manager.summary_stats.n_batch == 2


def test_without_columns_there_is_one_batch(mosaic: mudata.MuData) -> None:
    manager = manager_of(mosaic, SetupOptions())
    assert manager.summary_stats.n_batch == 1
    assert set(manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).ravel()) == {0}
    assert REGISTRY_KEYS.CONT_COVS_KEY not in manager.data_registry


def test_coverage_is_registered() -> None:
    counts = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    mdata = mudata.MuData({"meth": modality(counts, list("abc"), list("uv"), cov=counts + 1)})
    manager = manager_of(mdata, SetupOptions(coverage_layers={"meth": "cov"}))
    np.testing.assert_array_equal(manager.get_from_registry(coverage_key("meth")), counts + 1)


def test_private_mudata_shares_memory_and_leaves_random_states_alone(mosaic: mudata.MuData) -> None:
    data = register(mosaic, OPTIONS)
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    private = private_mudata(data)
    manager_of(mosaic)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert np.shares_memory(private["rna"].X.data, mosaic["rna"].X.data)
    assert set(private.obs.columns) == {"batch", "donor", "age"}


def test_model_is_an_scvi_model_and_the_users_object_is_untouched(
    mosaic: mudata.MuData, capsys: pytest.CaptureFixture[str]
) -> None:
    obs = mosaic.obs.copy()
    model = TinyModel(register(mosaic, OPTIONS), OPTIONS)
    assert isinstance(model, BaseModelClass)
    assert isinstance(model, scvi.model.base.BaseModelClass)
    assert model.adata is model.adata_manager.adata
    assert model.adata is not mosaic
    assert model.registry["model_name"] == "TinyModel"
    assert model.registry["setup_method_name"] == "setup_mudata"
    assert model.registry["setup_args"]["batch_key"] == "batch"
    model.view_anndata_setup()
    printed = capsys.readouterr().out
    assert "n_batch" in printed
    assert not mosaic.uns
    pd.testing.assert_frame_equal(mosaic.obs, obs)
    assert all(not adata.uns and not list(adata.obs.columns) for adata in mosaic.mod.values())


def test_two_models_on_one_mudata_are_independent(mosaic: mudata.MuData) -> None:
    first = TinyModel(register(mosaic, OPTIONS), OPTIONS)
    second = TinyModel(register(mosaic), SetupOptions())
    assert first.id != second.id
    assert (first.summary_stats.n_batch, second.summary_stats.n_batch) == (2, 1)
    assert first.get_anndata_manager(first.adata) is first.adata_manager
    assert second.get_anndata_manager(second.adata) is second.adata_manager


def test_models_and_their_data_are_collected(mosaic: mudata.MuData) -> None:
    model = TinyModel(register(mosaic, OPTIONS), OPTIONS)
    alive = weakref.ref(model.adata)
    assert not TinyModel._setup_adata_manager_store
    del model
    gc.collect()
    assert alive() is None
    assert not TinyModel._per_instance_manager_store


def test_setup_is_remembered_by_identity(mosaic: mudata.MuData) -> None:
    TinyModel.setups.put(mosaic, OPTIONS)
    assert TinyModel.setups.get(mosaic) is OPTIONS
    assert TinyModel.setups.get(mosaic.copy()) is None
    assert not mosaic.uns
    size = len(TinyModel.setups)
    other = make_mdata()
    TinyModel.setups.put(other, OPTIONS)
    del other
    gc.collect()
    assert len(TinyModel.setups) == size


def test_anndata_is_refused_with_the_line_that_wraps_it(mosaic: mudata.MuData) -> None:
    with pytest.raises(InputError, match=r"TinyModel reads a MuData.*mudata\.MuData\(\{\"rna\": adata\}\)"):
        TinyModel.setup_anndata(mosaic["rna"], batch_key="batch")


def test_names_of_scvi_tools_that_we_rely_on_exist() -> None:
    """A version that moves one of these fails here, by name, rather than somewhere in a model."""
    for name in ("_setup_adata_manager_store", "_per_instance_manager_store"):
        assert hasattr(BaseModelClass, name), name
    for name in ("adata", "adata_manager", "registry", "view_anndata_setup", "get_anndata_manager"):
        assert hasattr(BaseModelClass, name), name
    for name in ("register_fields", "get_from_registry", "get_state_registry", "adata_uuid", "summary_stats"):
        assert hasattr(AnnDataManager, name), name
    keys = (
        REGISTRY_KEYS.X_KEY,
        REGISTRY_KEYS.BATCH_KEY,
        REGISTRY_KEYS.CAT_COVS_KEY,
        REGISTRY_KEYS.CONT_COVS_KEY,
    )
    assert keys == ("X", "batch", "extra_categorical_covs", "extra_continuous_covs")


def test_only_the_bridge_imports_scvi_tools() -> None:
    """Importing it takes 8 seconds, and its inside moves between versions."""
    source = Path(multiomics_vae.__file__).parent
    imports = re.compile(r"^\s*(import|from) scvi\b", re.MULTILINE)
    users = [path.name for path in sorted(source.rglob("*.py")) if imports.search(path.read_text("utf-8"))]
    assert users == ["scvi_bridge.py"]
