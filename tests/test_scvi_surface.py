"""Whatever a model inherits from scvi-tools either works, or says what there is in its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pandas as pd
import pytest
from scvi.model.base import BaseModelClass

from multiomics_vae import MultiVAE
from multiomics_vae.data.options import SetupOptions, options_of
from multiomics_vae.data.registration import register as registered
from multiomics_vae.errors import InputError, MultiomicsError, NotFittedError, UnsupportedError
from small_models import fingerprint, make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

Ask = Callable[[MultiVAE, mudata.MuData], Any]

WORKS: dict[str, Ask] = {
    "adata": lambda model, mdata: model.adata["rna"].shape == (40, 10),
    "adata_manager": lambda model, mdata: model.adata_manager.adata is model.adata,
    "data_registry": lambda model, mdata: (model.data_registry("batch").ravel() == model._data.batch).all(),
    "deregister_manager": lambda model, mdata: model.deregister_manager() is None,
    "device": lambda model, mdata: model.device.type == "cpu",
    "get_anndata_manager": lambda model, mdata: model.get_anndata_manager(model.adata) is model.adata_manager,
    "get_from_registry": lambda model, mdata: model.get_from_registry(model.adata, "X_rna").shape == (40, 10),
    "get_normalized_expression": lambda model, mdata: model.get_normalized_expression().shape == (40, 10),
    "get_normalized_function_name": lambda model, mdata: callable(
        getattr(model, model.get_normalized_function_name)
    ),
    "get_setup_arg": lambda model, mdata: model.get_setup_arg("batch_key") == "batch",
    "get_state_registry": lambda model, mdata: (
        list(model.get_state_registry("batch").categorical_mapping) == ["b0", "b1"]
    ),
    "get_var_names": lambda model, mdata: (
        list(model.get_var_names()["rna"]) == list(model.schema.modalities[0].features)
    ),
    "history": lambda model, mdata: len(model.history["elbo_train"]) == 2,
    "is_trained": lambda model, mdata: model.is_trained is True,
    "registry": lambda model, mdata: model.registry["setup_method_name"] == "setup_mudata",
    "run_id": lambda model, mdata: model.run_id == "",
    "run_name": lambda model, mdata: model.run_name.startswith("run_"),
    "summary_string": lambda model, mdata: model.summary_string == model.summary(),
    "test_indices": lambda model, mdata: len(model.test_indices) == 0,
    "to_device": lambda model, mdata: model.to_device("cpu") is None,
    "train_indices": lambda model, mdata: len(model.train_indices) + len(model.validation_indices) == 40,
    "validation_indices": lambda model, mdata: len(model.validation_indices) == 4,
}

PRINTS: dict[str, Callable[[MultiVAE], None]] = {
    "view_anndata_setup": lambda model: model.view_anndata_setup(),
    "view_registry": lambda model: model.view_registry(hide_state_registries=True),
    "view_setup_method_args": lambda model: model.view_setup_method_args(),
}

REFUSED: dict[str, tuple[Ask, str]] = {
    "convert_legacy_save": (lambda model, mdata: MultiVAE.convert_legacy_save("a", "b"), "MultiVAE.load('a'"),
    "differential_abundance": (lambda model, mdata: model.differential_abundance(mdata), "X_multivae"),
    "load_registry": (lambda model, mdata: MultiVAE.load_registry("a"), "MultiVAE.load('a', mdata)"),
    "register_manager": (
        lambda model, mdata: MultiVAE.register_manager(model.adata_manager),
        "MultiVAE.setup_mudata(mdata)",
    ),
    "setup_anndata": (lambda model, mdata: MultiVAE.setup_anndata(mdata["rna"]), "mudata.MuData({"),
    "transfer_fields": (
        lambda model, mdata: model.transfer_fields(mdata),
        "model.get_latent_representation(mdata)",
    ),
    "update_setup_method_args": (
        lambda model, mdata: model.update_setup_method_args({"batch_key": "donor"}),
        "MultiVAE.setup_mudata(mdata, ",
    ),
    "view_setup_args": (lambda model, mdata: MultiVAE.view_setup_args("a"), "MultiVAE.load('a', mdata)"),
}

ELSEWHERE = {"load", "save", "train"}  # tests/test_persistence.py, tests/training/


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(), batch_key="batch")


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    return train(make_model(cells))


def test_every_inherited_name_is_spoken_of_here() -> None:
    """A version of scvi-tools that brings a new one fails here, until somebody has looked at it."""
    inherited = {name for name in dir(BaseModelClass) if not name.startswith("_")} - {"mro"}
    assert inherited == {*WORKS, *PRINTS, *REFUSED, *ELSEWHERE}


@pytest.mark.parametrize("name", WORKS)
def test_what_works(model: MultiVAE, cells: mudata.MuData, name: str) -> None:
    assert WORKS[name](model, cells)


@pytest.mark.parametrize("name", PRINTS)
def test_what_prints(model: MultiVAE, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    PRINTS[name](model)
    printed = capsys.readouterr().out
    assert "MultiVAE.setup_mudata" in printed
    assert "'batch_key': 'batch'" in printed
    assert "setup_anndata" not in printed


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_way_there_is(model: MultiVAE, cells: mudata.MuData, name: str) -> None:
    ask, way = REFUSED[name]
    before = fingerprint(cells)
    with pytest.raises(MultiomicsError, match=re.escape(way)) as caught:
        ask(model, cells)
    assert isinstance(caught.value, InputError | UnsupportedError)
    assert getattr(MultiVAE, name).__doc__
    assert fingerprint(cells) == before
    assert not MultiVAE._setup_adata_manager_store


@pytest.mark.parametrize("name", ["load_query_data", "prepare_query_anndata", "prepare_query_mudata"])
def test_what_other_models_of_scvi_tools_have_is_refused_too(cells: mudata.MuData, name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"MultiVAE.map_query.*get_latent_representation"):
        getattr(MultiVAE, name)(cells, reference_model="path")
    with pytest.raises(NotImplementedError):
        getattr(MultiVAE, name)(cells)


def test_other_cells_are_neither_found_nor_written_to(model: MultiVAE, cells: mudata.MuData) -> None:
    """Also a copy of the model's own cells, into which scvi-tools would transfer the setup."""
    for other in (cells, model.adata.copy(), make_cells()):
        before = fingerprint(other)
        assert model.get_anndata_manager(other) is None
        for ask in (
            lambda other: model.get_anndata_manager(other, required=True),
            lambda other: model.get_from_registry(other, "X_rna"),
            lambda other: model.view_anndata_setup(other),
        ):
            with pytest.raises(InputError, match=r"manager\(model\.adata\).*representation\(mdata\)"):
                ask(other)
        with pytest.raises(InputError, match="del model"):
            model.deregister_manager(other)
        with pytest.raises(UnsupportedError, match=r"MultiVAE\.load\(path, mdata\)"):
            model.adata = other
        assert fingerprint(other) == before
    assert model.get_anndata_manager(model.adata) is model.adata_manager


def test_unknown_keys(model: MultiVAE) -> None:
    with pytest.raises(InputError, match=r"no registered value 'x_rna'\. Did you mean 'X_rna'"):
        model.data_registry("x_rna")
    with pytest.raises(InputError, match=r"no registered value 'batches'\. Did you mean 'batch'"):
        model.get_state_registry("batches")
    with pytest.raises(InputError, match=r"no setup argument 'batch'\. Did you mean 'batch_key'"):
        model.get_setup_arg("batch")


def test_values_on_disk_are_not_shown_as_what_stands_for_them(tmp_path: Path) -> None:
    make_cells().write_h5mu(tmp_path / "cells.h5mu")
    backed = register(mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True), batch_key="batch")
    model = make_model(backed)
    for ask in (model.data_registry, lambda key: model.get_from_registry(model.adata, key)):
        with pytest.raises(InputError, match=r"'X_rna' are on disk.*mdata\['rna'\]\[:100\]"):
            ask("X_rna")
    assert model.data_registry("batch").shape == (40, 1)


def test_a_loaded_model_knows_how_its_cells_were_set_up(
    model: MultiVAE, cells: mudata.MuData, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", cells)
    for name in ("batch_key", "likelihoods", "size_factor_key", "coverage_layers"):
        assert loaded.get_setup_arg(name) == model.get_setup_arg(name)
    assert len(loaded.test_indices) == 0


def test_options_of_a_schema_give_the_same_schema() -> None:
    kinds = {"rna": "nb", "meth": "beta_binomial"}
    mdata = make_cells(kinds)
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    options = SetupOptions(
        likelihoods={"rna": "zinb"},
        layers={"rna": "counts"},
        coverage_layers={"meth": "coverage"},
        batch_key="batch",
        categorical_covariate_keys=["donor"],
        continuous_covariate_keys=["age"],
        size_factor_key="factor",
    )
    schema = registered(mdata, options).schema
    found = options_of(schema)
    assert (found.likelihoods, found.layers) == (
        {"rna": "zinb", "meth": "beta_binomial"},
        {"rna": "counts", "meth": None},
    )
    again = registered(mdata, found).schema
    assert (
        pd.DataFrame(again.modalities)
        .drop(columns="note")
        .equals(pd.DataFrame(schema.modalities).drop(columns="note"))
    )
    assert (again.batch, again.categorical, again.continuous, again.size_factor_key) == (
        schema.batch,
        schema.categorical,
        schema.continuous,
        schema.size_factor_key,
    )


def test_nothing_is_answered_before_training_and_the_surface_is_there() -> None:
    untrained = make_model()
    assert untrained.is_trained is False
    assert untrained.summary_string
    with pytest.raises(NotFittedError):
        untrained.get_normalized_expression()
    assert np.array_equal(untrained.train_indices, untrained.test_indices)
