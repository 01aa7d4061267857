"""A model as a checkpoint and back: which part of it is written where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from multiomics_vae.architecture import ModalityConfig, ModelConfig, build_module
from multiomics_vae.data import schema_json
from multiomics_vae.data.schema import Schema
from multiomics_vae.errors import CheckpointError, InputError, did_you_mean
from multiomics_vae.heads import Head, NamedHead
from multiomics_vae.likelihoods import FeatureStatistics
from multiomics_vae.module import MultimodalModule
from multiomics_vae.training.checkpoint import Checkpoint, check_tensors, load_checkpoint, save_checkpoint
from multiomics_vae.training.history import History

Record = TypeVar("Record")

# Begins the names of tensors that are none of the module's, in which there is no slash.
AIDS = "aids/"


@dataclass(frozen=True)
class SavedModel:
    """All that is kept of a model, in living form.

    Parameters
    ----------
    config, schema, module, history
        The model.
    aids
        What was learned beside the weights in order to predict, by name.
    """

    config: ModelConfig
    schema: Schema
    module: MultimodalModule
    history: History
    aids: Mapping[str, torch.Tensor] = field(default_factory=dict)


def save_model(folder: str | Path, class_name: str, model: SavedModel, overwrite: bool) -> None:
    """Write a model; see `training.checkpoint.save_checkpoint` for what can go wrong."""
    save_checkpoint(
        folder,
        Checkpoint(
            class_name=class_name,
            config=plain(asdict(model.config)),
            schema=schema_json.to_json(model.schema),
            history={"epochs": model.history.to_json()},
            tensors={**model.module.state_dict(), **{f"{AIDS}{n}": t for n, t in model.aids.items()}},
        ),
        overwrite=overwrite,
    )


def load_model(folder: str | Path, class_name: str) -> SavedModel:
    """Read a model and put its weights in place; every tensor is checked by name, shape and type."""
    checkpoint = load_checkpoint(folder, expected_class=class_name)
    schema = schema_json.from_json(checkpoint.schema)
    weights = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(AIDS)}
    aids = {name.removeprefix(AIDS): t for name, t in checkpoint.tensors.items() if name.startswith(AIDS)}
    config, module = module_from(folder, checkpoint.config, schema, weights)
    history = History.from_json(checkpoint.history.get("epochs", []))
    return SavedModel(config, schema, module, history, aids)


def module_from(
    folder: str | Path, document: Mapping[str, Any], schema: Schema, tensors: Mapping[str, torch.Tensor]
) -> tuple[ModelConfig, MultimodalModule]:
    """Build the module that a configuration describes and put weights in place.

    Parameters
    ----------
    folder
        Where all this was read, for errors.
    document
        The configuration, as JSON.
    schema
        What was registered.
    tensors
        Of the whole module.

    Raises
    ------
    CheckpointError
        If anything does not fit.
    """
    try:
        config = config_from_json(document)
        if len(config.modalities) != len(schema.modalities):
            raise CheckpointError(
                f"{folder}: config.json describes {len(config.modalities)} modalities, schema.json "
                f"{len(schema.modalities)}. The files do not belong together: save the model again."
            )
        statistics = tuple(
            FeatureStatistics.empty(m.n_features, schema.n_batches, c.n_categories, c.has_unobserved)
            for m, c in zip(schema.modalities, config.modalities, strict=True)
        )
        # On no device first, so that sizes are compared before any memory is asked for.
        with torch.device("meta"):
            expected = build_module(config, schema, statistics).state_dict()
        check_tensors(tensors, expected)
        module = build_module(config, schema, statistics)
    except InputError as error:
        raise CheckpointError(
            f"{folder}: config.json describes a model that cannot be built: {error}"
        ) from error
    module.load_state_dict(dict(tensors))
    module.eval()
    return config, module


def config_from_json(document: Mapping[str, Any]) -> ModelConfig:
    """Read a configuration, refusing unknown, missing or mistyped entries.

    Raises
    ------
    CheckpointError
        Naming the entry.
    """
    values = dict(document)
    values["modalities"] = [
        record_from_json(ModalityConfig, entry, f"modalities[{i}]")
        for i, entry in enumerate(_list(values, "modalities"))
    ]
    values["heads"] = [_head(entry, f"heads[{i}]") for i, entry in enumerate(_list(values, "heads"))]
    return record_from_json(ModelConfig, values, "config")


def _head(entry: Any, where: str) -> NamedHead:
    values = dict(entry) if isinstance(entry, Mapping) else entry
    if isinstance(values, dict) and "head" in values:
        values["head"] = record_from_json(Head, values["head"], f"{where}.head")
    return record_from_json(NamedHead, values, where)


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    entries = values.get(name)
    if not isinstance(entries, list):
        raise CheckpointError(f"config.json: {name!r} must be a list, not {type(entries).__name__}.")
    return entries


def record_from_json(kind: type[Record], values: Any, where: str) -> Record:
    """Read a dataclass, refusing unknown, missing or mistyped entries.

    Parameters
    ----------
    kind
        The dataclass.
    values
        As `plain` made them.
    where
        For errors.

    Raises
    ------
    CheckpointError
        Naming the entry.
    """
    if not isinstance(values, Mapping):
        raise CheckpointError(f"config.json: {where} must be an object, not {type(values).__name__}.")
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise CheckpointError(
                f"config.json: {where} has an unknown entry {name!r}. {did_you_mean(name, names)}"
            )
    read: dict[str, Any] = {}
    for name in names:
        if name not in values:
            raise CheckpointError(f"config.json: {where} lacks the entry {name!r}. Save the model again.")
        value: Any = tuple(values[name]) if isinstance(values[name], list) else values[name]
        if not _fits(value, hints[name]):
            raise CheckpointError(f"config.json: {where}.{name} is {value!r}, which is not {hints[name]}.")
        read[name] = float(values[name]) if hints[name] is float else value
    return kind(**read)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (UnionType, Union):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(entry, get_args(hint)[0]) for entry in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def plain(value: Any) -> Any:
    """Give JSON its own types: tuples become lists, numpy's numbers Python's."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value
