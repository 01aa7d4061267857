"""What a question about values that were not measured may ask, and what is said when it may not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from multiomics_vae.analysis.calibration import LevelMap
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.schema import Schema
from multiomics_vae.data.selection import select_modalities
from multiomics_vae.errors import InputError


def source_modalities(schema: Schema, target: int, given: Iterable[str] | None) -> tuple[int, ...]:
    """Positions of the modalities to impute from; None means all but the target.

    Raises
    ------
    InputError
        If the target is among them, or there is no other.
    """
    names = schema.modality_names
    name = names[target]
    others = tuple(m for m in range(len(names)) if m != target)
    if not others:
        raise InputError(
            f"The model has only the modality {name!r}, and nothing to impute it from. What was measured is "
            f"denoised by: model.denoise({name!r})"
        )
    chosen = select_modalities(schema, given, "given")
    if chosen is None:
        return others
    if target in chosen:
        rest = [names[m] for m in chosen if m != target] or [names[m] for m in others]
        raise InputError(
            f"given holds {name!r}, which is to be imputed: nothing of it may be read. Leave it out: "
            f"given={rest}. With the cell's own measurement it is denoising: model.denoise({name!r})"
        )
    return chosen


def measured_cells(data: MultimodalData, cells: np.ndarray, modality: int, every: bool) -> np.ndarray:
    """Cells that have a modality.

    Parameters
    ----------
    data, cells, modality
        The cells, the positions asked for, the position of the modality.
    every
        All cells were asked for: those without the modality are left out. Otherwise they are an error.

    Raises
    ------
    InputError
        If cells lack it, or all do.
    """
    measured = data.modalities[modality].row_of_cell[cells] >= 0
    name = data.schema.modality_names[modality]
    if not every and not measured.all():
        first = str(data.cell_names[cells[~measured][0]])
        raise InputError(
            f"{int((~measured).sum())} of {len(cells)} cells have no {name!r} to denoise (the first is "
            f"{first!r}). Leave them out: indices=mdata.obs_names.isin(mdata[{name!r}].obs_names). What they "
            f"would show is imputed by: model.impute({name!r})"
        )
    if every and len(cells) and not measured.any():
        raise InputError(f"No cell has {name!r}. Impute it from the others: model.impute({name!r}, mdata)")
    return np.asarray(cells[measured])


def check_samples(n_samples: int, batches: tuple[int, ...] | None) -> None:
    """Refuse fewer samples than batches to decode as, each of which takes its turn.

    Raises
    ------
    InputError
        With the number that is needed.
    """
    if batches is not None and n_samples < len(batches):
        raise InputError(
            f"n_samples={n_samples} is too few for {len(batches)} batches in transform_batch, of which each "
            f"needs one: n_samples={10 * len(batches)}"
        )


def check_level_map(
    found: LevelMap | None, calibrated: bool | None, schema: Schema, direction: Direction
) -> LevelMap | None:
    """The map to use; None asks for it where there is one.

    Raises
    ------
    InputError
        If one was asked for that is not there.
    """
    if calibrated is not None and not isinstance(calibrated, bool):
        raise InputError(f"calibrated must be True, False or None, not {calibrated!r}: calibrated=None")
    if calibrated is False:
        return None
    if calibrated and found is None:
        names = schema.modality_names
        given = "everything" if direction.given is None else [names[m] for m in direction.given]
        raise InputError(
            f"The model was not calibrated for {names[direction.modality]!r} given {given}. Calibrate it on "
            "held-out cells: model.calibrate()"
        )
    return found


def calibration_cells(held_out: np.ndarray) -> np.ndarray:
    """The cells that training held out.

    Raises
    ------
    InputError
        If there are none.
    """
    if len(held_out) == 0:
        raise InputError(
            "The model knows of no held-out cells: it was trained with validation_size=0, or loaded. Give "
            "cells that it was not trained on: model.calibrate(other_mdata)"
        )
    return held_out
