"""A run under way as a checkpoint, and back: the same folder format as a saved model, with more in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multiomics_vae.architecture import ModelConfig
from multiomics_vae.data import schema_json
from multiomics_vae.data.reading import PassStart
from multiomics_vae.data.schema import Schema
from multiomics_vae.errors import CheckpointError, InputError
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import ObjectiveConfig, PenaltyWeight
from multiomics_vae.training.checkpoint import TRAINING, Checkpoint, load_checkpoint, save_checkpoint
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.history import History
from multiomics_vae.training.run import TrainingRun, fingerprint
from multiomics_vae.training.saved import module_from, plain, record_from_json
from multiomics_vae.training.state import Progress, TrainingState

CELLS = "cells"


@dataclass(frozen=True, eq=False)
class UnfinishedTraining:
    """A run under way, with the model it trains.

    Parameters
    ----------
    config, schema
        Of the model.
    run
        What was asked for.
    cells
        `training.run.fingerprint` of all registered cells.
    every_n_steps
        How often its state is kept within a pass; None at the end of passes only.
    """

    config: ModelConfig
    schema: Schema
    run: TrainingRun
    cells: str
    every_n_steps: int | None

    def write(self, folder: str | Path, class_name: str, state: TrainingState) -> None:
        """Replace what is in the folder by the run and a state of it, whole or not at all.

        Parameters
        ----------
        folder
            A new one, or one that holds an earlier state.
        class_name
            Of the model.
        state
            Where the run stands.

        Raises
        ------
        CheckpointError
            If the disk refuses; the earlier state is then still whole.
        """
        document = {
            "model": asdict(self.config),
            "training": asdict(self.run.config),
            "objective": asdict(self.run.objective),
            "run": {
                "modality_weights": self.run.modality_weights,
                "adaptive": self.run.adaptive,
                CELLS: self.cells,
                "every_n_steps": self.every_n_steps,
            },
            "progress": asdict(state.progress),
            "pass_start": state.pass_start.state,
        }
        split = {
            f"{CELLS}/training": torch.from_numpy(self.run.training_cells),
            f"{CELLS}/validation": torch.from_numpy(self.run.validation_cells),
        }
        checkpoint = Checkpoint(
            class_name=class_name + TRAINING,
            config=plain(document),
            schema=schema_json.to_json(self.schema),
            history={"epochs": state.history},
            tensors={**state.tensors, **split},
        )
        save_checkpoint(folder, checkpoint, overwrite=True)


@dataclass(frozen=True, eq=False)
class Resumed:
    """What `read_unfinished` found: the run, its state, and the model as it was then."""

    training: UnfinishedTraining
    state: TrainingState
    module: MultimodalModule
    history: History


def check_free(folder: str | Path, class_name: str) -> None:
    """Refuse to begin a new run where something is kept already.

    Raises
    ------
    CheckpointError
        Naming the ways out.
    """
    if os.path.lexists(folder):
        raise CheckpointError(
            f"{folder} exists already. To go on with a training that is kept there: "
            f"{class_name}.resume({str(folder)!r}, mdata). To begin anew, name another folder or remove it."
        )


def check_same_cells(training: UnfinishedTraining, cell_names: np.ndarray, folder: str | Path) -> None:
    """Refuse to go on with other cells than a run was begun with.

    Raises
    ------
    CheckpointError
        If names or order differ.
    """
    if fingerprint(cell_names) != training.cells:
        raise CheckpointError(
            f"The training in {folder} was begun with other cells, or with the same in another order, than "
            f"these {len(cell_names)}, of which the first is {cell_names[0]!r}. Give the MuData of then."
        )


def read_unfinished(folder: str | Path, class_name: str) -> Resumed:
    """Read a run under way.

    Parameters
    ----------
    folder
        Where `UnfinishedTraining.write` kept it.
    class_name
        Of the model that is to go on.

    Raises
    ------
    CheckpointError
        If the folder is missing, foreign or damaged, or holds something else.
    """
    checkpoint = load_checkpoint(folder, expected_class=class_name + TRAINING)
    document, tensors = checkpoint.config, dict(checkpoint.tensors)
    schema = schema_json.from_json(checkpoint.schema)
    progress = record_from_json(Progress, _part(document, "progress"), "progress")
    pass_start = document.get("pass_start")
    split = [tensors.pop(f"{CELLS}/{name}", None) for name in ("training", "validation")]
    state = TrainingState(
        progress, _pass_start(pass_start), list(checkpoint.history.get("epochs", [])), tensors
    )
    config, module = module_from(folder, _part(document, "model"), schema, state.under("weights"))
    try:
        training, objective = _part(document, "training"), _part(document, "objective")
        run, cells, every = _run(_part(document, "run"), training, objective, split)
    except InputError as error:
        raise CheckpointError(f"{folder}: config.json describes a run that cannot be: {error}") from error
    history = History.from_json(state.history)
    return Resumed(UnfinishedTraining(config, schema, run, cells, every), state, module, history)


def _run(
    document: Mapping[str, Any],
    training: Mapping[str, Any],
    objective: Mapping[str, Any],
    split: list[torch.Tensor | None],
) -> tuple[TrainingRun, str, int | None]:
    entries = record_from_json(_RunEntries, document, "run")
    positions = [np.empty(0, dtype=np.int64) if cells is None else cells.numpy() for cells in split]
    run = TrainingRun(
        record_from_json(TrainingConfig, training, "training"),
        _objective(objective),
        entries.modality_weights,
        entries.adaptive,
        *positions,
    )
    return run, entries.cells, entries.every_n_steps


def _objective(document: Mapping[str, Any]) -> ObjectiveConfig:
    entries = document.get("penalties")
    if not isinstance(entries, list):
        raise CheckpointError(f"config.json: 'penalties' must be a list, not {type(entries).__name__}.")
    penalties = [record_from_json(PenaltyWeight, each, f"penalties[{i}]") for i, each in enumerate(entries)]
    return record_from_json(ObjectiveConfig, {**document, "penalties": penalties}, "objective")


@dataclass(frozen=True)
class _RunEntries:
    modality_weights: tuple[float, ...]
    adaptive: bool
    cells: str
    every_n_steps: int | None


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    if not isinstance(part, Mapping):
        raise CheckpointError(f"config.json: {name!r} must be an object, not {type(part).__name__}.")
    return part


def _pass_start(state: object) -> PassStart:
    """Take a generator's state over only if it is one: it is put into numpy's generator later."""
    start = PassStart(state if isinstance(state, str) else None)
    try:
        start.restore(np.random.default_rng())
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"config.json: 'pass_start' is no state of a generator: {error}") from error
    return start
