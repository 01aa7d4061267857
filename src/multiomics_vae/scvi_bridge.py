"""The one place that knows the inside of scvi-tools: its manager, its fields, its base class.

scvi-tools writes into whatever it registers. It is given a private MuData (`data/private_mudata.py`), so
the user's object stays as it was.
"""

from __future__ import annotations

import warnings
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NoReturn

import rich
import rich.pretty
import torch
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

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.options import SetupOptions
from multiomics_vae.data.private_mudata import COVERAGE_LAYER, private_mudata
from multiomics_vae.data.setup_store import SetupStore
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.errors import DeviceError, InputError, UnsupportedError, did_you_mean


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
            fields.append(MuDataLayerField(key, COVERAGE_LAYER, mod_key=entry.name, **plain))
    batch_key = None if schema.batch is None else schema.batch.key
    fields.append(MuDataCategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key))
    groupings = [grouping.key for grouping in schema.categorical]
    fields.append(MuDataCategoricalJointObsField(REGISTRY_KEYS.CAT_COVS_KEY, groupings))
    numbers = [number.key for number in schema.continuous]
    fields.append(MuDataNumericalJointObsField(REGISTRY_KEYS.CONT_COVS_KEY, numbers))
    manager = _Manager(
        fields=fields,
        setup_method_args=dict(setup_args),
        validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
    )
    with warnings.catch_warnings():
        # Small categories were reported by our own registration.
        warnings.filterwarnings("ignore", "Category .* has fewer than 3 cells", UserWarning)
        manager.register_fields(private_mudata(data))
    return manager


class _Manager(AnnDataManager):  # type: ignore[misc]
    """scvi-tools' manager, which would tell people to call ``setup_anndata``."""

    @staticmethod
    def view_setup_method_args(registry: Mapping[str, Any]) -> None:
        rich.print(f"Setup via `{registry[_MODEL_NAME_KEY]}.{registry[_SETUP_METHOD_NAME]}` with arguments:")
        rich.pretty.pprint(registry[_SETUP_ARGS_KEY])
        rich.print()


def _refused(why: str) -> staticmethod[..., NoReturn]:
    """A method of scvi-tools' models that is closed here; ``why`` says so and names the way there is."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise UnsupportedError(why)

    refuse.__doc__ = f"Closed. {why}"
    return staticmethod(refuse)


class ScviModel(BaseModelClass):  # type: ignore[misc]
    """An scvi-tools model over a private MuData: what our user's class derives from.

    ``adata`` is the private MuData, ``adata_manager`` and ``registry`` describe it, and
    ``view_anndata_setup()`` prints it. What scvi-tools does to other cells (transfer a setup into them,
    register them) is closed: answers take another MuData as it is.

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
        type(self)._setup_adata_manager_store[manager.adata_uuid] = manager
        self._on_disk = _keys_on_disk(data)
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

    transfer_fields = _refused(
        "A model writes no setup into other cells. Ask about them as they are: "
        "model.get_latent_representation(mdata)"
    )
    register_manager = _refused(
        "A manager of scvi-tools is not read here. Set up the MuData: MultiVAE.setup_mudata(mdata)"
    )
    update_setup_method_args = _refused(
        "A model keeps the setup that it was made with. Set up anew, and make another: "
        'MultiVAE.setup_mudata(mdata, batch_key="batch"); model = MultiVAE(mdata)'
    )
    load_query_data = prepare_query_mudata = prepare_query_anndata = _refused(
        "A query is mapped by another method: query = MultiVAE.map_query(mdata, model). Cells of the batches "
        "that a model knows need no preparation: model.get_latent_representation(mdata)"
    )
    differential_abundance = _refused(
        "There is no differential abundance here. Compare neighbourhoods of the embedding: "
        'model.write_results(mdata); scanpy.pp.neighbors(mdata, use_rep="X_multivae")'
    )

    @property
    def adata(self) -> MuData:
        """The private MuData of the cells that the model was made with; values on disk are NaN in it."""
        return self._adata

    @adata.setter
    def adata(self, adata: object) -> None:
        raise UnsupportedError(
            "A model keeps the cells that it was made with. Ask about others: "
            "model.get_latent_representation(mdata). Or load it with others: MultiVAE.load(path, mdata)"
        )

    def get_anndata_manager(self, adata: object, required: bool = False) -> AnnDataManager | None:
        """The manager of ``model.adata``; None for all other cells, which a model registers nowhere.

        Raises
        ------
        InputError
            For other cells, if a manager is ``required``.
        """
        if adata is self.adata:
            return self.adata_manager
        if required:
            raise InputError(
                "A model has a manager of its own copy of the cells only: "
                "model.get_anndata_manager(model.adata). Answers take other cells as they are: "
                "model.get_latent_representation(mdata)"
            )
        return None

    def deregister_manager(self, adata: object = None) -> None:
        """Does nothing: a model holds the manager of its own cells only, and lets go of it at its end.

        Raises
        ------
        InputError
            For any cells.
        """
        if adata is not None:
            raise InputError("A model lets go of its cells when it is deleted itself: del model")

    def data_registry(self, registry_key: str) -> Any:
        """The registered values under a key of ``model.adata_manager.data_registry``.

        Raises
        ------
        InputError
            For an unknown key, and for values that are on disk.
        """
        _check_key("registered value", registry_key, self.adata_manager.data_registry)
        if registry_key in self._on_disk:
            raise InputError(
                f"The values of {registry_key!r} are on disk, and the manager does not hold them. Read some "
                f"from the MuData itself: mdata[{self._on_disk[registry_key]!r}][:100]"
            )
        return self.adata_manager.get_from_registry(registry_key)

    def get_from_registry(self, adata: object, registry_key: str) -> Any:
        """`data_registry` of ``model.adata``, which is all that is registered."""
        self.get_anndata_manager(adata, required=True)
        return self.data_registry(registry_key)

    def get_state_registry(self, registry_key: str) -> Any:
        """What was found at registration, for example the batches: ``get_state_registry("batch")``."""
        _check_key("registered value", registry_key, self.adata_manager.data_registry)
        return self.adata_manager.get_state_registry(registry_key)

    def get_setup_arg(self, setup_arg: str) -> Any:
        """An argument of ``setup_mudata`` as the model was made with it."""
        arguments = self.registry[_SETUP_ARGS_KEY]
        _check_key("setup argument", setup_arg, arguments)
        return arguments[setup_arg]

    def view_setup_method_args(self) -> None:
        """Print the arguments of ``setup_mudata``."""
        self.adata_manager.view_setup_method_args(self.registry)

    def view_registry(self, hide_state_registries: bool = False) -> None:
        """Print what scvi-tools' manager holds."""
        self.adata_manager.view_registry(hide_state_registries=hide_state_registries)

    def view_anndata_setup(self, adata: object = None, hide_state_registries: bool = False) -> None:
        """`view_registry`; of ``model.adata`` only, as nothing else is registered."""
        self.get_anndata_manager(self.adata if adata is None else adata, required=True)
        self.view_registry(hide_state_registries)

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


def _keys_on_disk(data: MultimodalData) -> dict[str, str]:
    """Keys of values that the manager does not hold, and the modality of each."""
    found = {}
    for schema, part in zip(data.schema.modalities, data.modalities, strict=True):
        if isinstance(part.values, StoredRows):
            found[registry_key(schema.name)] = schema.name
        if isinstance(part.coverage, StoredRows):
            found[coverage_key(schema.name)] = schema.name
    return found


def _check_key(what: str, key: str, known: Mapping[str, Any]) -> None:
    if key not in known:
        raise InputError(f"There is no {what} {key!r}. {did_you_mean(key, known)}")
