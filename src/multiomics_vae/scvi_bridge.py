"""The one place that knows the inside of scvi-tools: its manager, its fields, its base class.

scvi-tools writes into whatever it registers. It is given a private MuData, built around the
canonical matrices, so the user's object stays as it was.
"""

from __future__ import annotations

import random
import warnings
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import pandas as pd

# scvi-tools prints with `rich.pretty` without importing it.
import rich.pretty  # noqa: F401
import torch
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data._constants import _MODEL_NAME_KEY, _SETUP_ARGS_KEY, _SETUP_METHOD_NAME
from scvi.data._manager import AnnDataManagerValidationCheck
from scvi.data.fields import (
    MuDataCategoricalJointObsField,
    MuDataCategoricalObsField,
    MuDataLayerField,
    MuDataNumericalJointObsField,
)
from scvi.model.base import BaseModelClass

from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.options import SetupOptions
from multiomics_vae.data.schema import ModalitySchema
from multiomics_vae.data.setup_store import SetupStore
from multiomics_vae.data.sources import Matrix
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.errors import DeviceError, InputError

_COVERAGE_LAYER = "coverage"


def registry_key(modality: str) -> str:
    """Key under which the manager holds the values of a modality."""
    return f"{REGISTRY_KEYS.X_KEY}_{modality}"


def coverage_key(modality: str) -> str:
    """Key under which the manager holds the coverage of a modality."""
    return f"coverage_{modality}"


def setup_method_args(model_name: str, options: SetupOptions) -> dict[str, Any]:
    """What scvi-tools keeps about the call of ``setup_mudata``."""
    arguments = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(options).items()
    }
    return {_MODEL_NAME_KEY: model_name, _SETUP_METHOD_NAME: "setup_mudata", _SETUP_ARGS_KEY: arguments}


def private_mudata(data: MultimodalData) -> MuData:
    """Build a MuData around the canonical matrices, whose memory it shares.

    Values that are on disk are not brought in: a NaN stands for each of them, and takes no memory.

    ``X`` of every modality holds the registered values (missing entries as 0), ``obs`` the
    registered columns only, in the order of ``data.cell_names``.
    """
    names = pd.Index(data.cell_names)
    modalities = {
        schema.name: _private_modality(schema, part, names)
        for schema, part in zip(data.schema.modalities, data.modalities, strict=True)
    }
    random_state = random.getstate()
    with warnings.catch_warnings():
        # MuData warns of feature names shared between modalities, and of changes to come in `update`.
        warnings.simplefilter("ignore")
        mdata = MuData(modalities)
        # MuData names temporary columns with Python's global generator.
        random.setstate(random_state)
        mdata.obs = _private_obs(data, names)
        for name, part in zip(modalities, data.modalities, strict=True):
            # MuData orders cells by modality; these follow the registered order.
            mdata.obsm[name] = part.row_of_cell >= 0
            mdata.obsmap[name] = (part.row_of_cell + 1).astype(np.uint32)
    return mdata


def _private_modality(schema: ModalitySchema, part: ModalityData, names: pd.Index) -> AnnData:
    cells = np.flatnonzero(part.row_of_cell >= 0)
    row_names = np.empty(len(cells), dtype=object)
    row_names[part.row_of_cell[cells]] = names[cells]
    layers = None if part.coverage is None else {_COVERAGE_LAYER: _in_memory(part.coverage)}
    return AnnData(
        _in_memory(part.values),
        obs=pd.DataFrame(index=pd.Index(row_names)),
        var=pd.DataFrame(index=pd.Index(schema.features)),
        layers=layers,
    )


def _in_memory(values: Matrix | StoredRows) -> Matrix:
    return np.broadcast_to(np.float32(np.nan), values.shape) if isinstance(values, StoredRows) else values


def _private_obs(data: MultimodalData, names: pd.Index) -> pd.DataFrame:
    schema = data.schema
    obs = pd.DataFrame(index=names)
    if schema.batch is not None:
        obs[schema.batch.key] = pd.Categorical.from_codes(data.batch, pd.Index(schema.batch.categories))
    for column, grouping in enumerate(schema.categorical):
        obs[grouping.key] = pd.Categorical.from_codes(
            data.categorical[:, column], pd.Index(grouping.categories)
        )
    for column, number in enumerate(schema.continuous):
        obs[number.key] = data.continuous[:, column]
    return obs


def build_manager(data: MultimodalData, setup_args: Mapping[str, Any]) -> AnnDataManager:
    """Register a private MuData with scvi-tools.

    Parameters
    ----------
    data
        What our own registration found.
    setup_args
        From `setup_method_args`.

    Returns
    -------
    AnnDataManager
        Its registry returns what ``data`` holds: `registry_key` of every modality, ``batch``,
        ``extra_categorical_covs``, ``extra_continuous_covs``.
    """
    schema = data.schema
    fields: list[Any] = []
    for entry in schema.modalities:
        # `is_count_data` would draw from numpy's global random state to look at some values.
        plain = {"is_count_data": False, "correct_data_format": False, "mod_required": True}
        fields.append(MuDataLayerField(registry_key(entry.name), None, mod_key=entry.name, **plain))
        if entry.coverage_layer is not None:
            key = coverage_key(entry.name)
            fields.append(MuDataLayerField(key, _COVERAGE_LAYER, mod_key=entry.name, **plain))
    batch_key = None if schema.batch is None else schema.batch.key
    fields.append(MuDataCategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key))
    groupings = [grouping.key for grouping in schema.categorical]
    fields.append(MuDataCategoricalJointObsField(REGISTRY_KEYS.CAT_COVS_KEY, groupings))
    numbers = [number.key for number in schema.continuous]
    fields.append(MuDataNumericalJointObsField(REGISTRY_KEYS.CONT_COVS_KEY, numbers))
    manager = AnnDataManager(
        fields=fields,
        setup_method_args=dict(setup_args),
        validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
    )
    with warnings.catch_warnings():
        # Small categories were reported by our own registration.
        warnings.simplefilter("ignore", UserWarning)
        manager.register_fields(private_mudata(data))
    return manager


class ScviModel(BaseModelClass):  # type: ignore[misc]
    """An scvi-tools model over a private MuData: what our user's class derives from.

    ``adata`` is the private MuData, ``adata_manager`` and ``registry`` describe it, and
    ``view_anndata_setup()`` prints it.

    Parameters
    ----------
    data
        Registered cells.
    options
        How they were set up, as ``view_setup_method_args`` shows it.
    """

    setups: SetupStore[SetupOptions] = SetupStore()

    def __init__(self, data: MultimodalData, options: SetupOptions) -> None:
        manager = build_manager(data, setup_method_args(type(self).__name__, options))
        type(self).register_manager(manager)
        try:
            super().__init__(manager.adata)
        finally:
            # The class-wide stores of scvi-tools would keep every data set alive for ever.
            type(self)._setup_adata_manager_store.pop(manager.adata_uuid, None)
        weakref.finalize(self, type(self)._per_instance_manager_store.pop, self.id, None)

    @classmethod
    def setup_anndata(cls, adata: object, **_: object) -> NoReturn:
        """Refuse an AnnData: every model here reads a MuData.

        Raises
        ------
        InputError
            Always, with the line that wraps an AnnData.
        """
        raise InputError(
            f"{cls.__name__} reads a MuData. Wrap the AnnData: "
            f'`mdata = mudata.MuData({{"rna": adata}}); {cls.__name__}.setup_mudata(mdata)`.'
        )

    @staticmethod
    def load_registry(dir_path: str, *_: object, **__: object) -> NoReturn:
        """Refuse a model of scvi-tools: reading it means running what its pickle says.

        Raises
        ------
        InputError
            Always, with the line that reads our own format.
        """
        raise InputError(
            f"{dir_path!r} is not opened with scvi-tools' readers, which unpickle. "
            f"Read a model of this package: `MultiVAE.load({dir_path!r}, mdata)`."
        )

    view_setup_args = convert_legacy_save = load_registry

    def to_device(self, device: str | int | torch.device) -> None:
        """Move the model, which then answers there.

        Parameters
        ----------
        device
            As torch names it: ``"cpu"``, ``"cuda:0"``, ``"mps"``.

        Raises
        ------
        DeviceError
            If it is not there.
        """
        try:
            self.module.to(torch.device(device))
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise DeviceError(
                f"The device {device!r} cannot be used here: {str(error).rstrip('.! ')}. Stay where it "
                "works: model.to_device('cpu')"
            ) from error

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.module.parameters()).device
        return device

    @abstractmethod
    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Fit the model."""
