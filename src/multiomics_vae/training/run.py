"""Everything that decides a training run beside the data and the weights it starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from multiomics_vae.errors import InputError
from multiomics_vae.objective import ObjectiveConfig
from multiomics_vae.training.config import TrainingConfig


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """One training run, as it was asked for.

    Parameters
    ----------
    config, objective
        The choices.
    modality_weights
        λ at the start.
    adaptive
        Adapt λ from gradient norms.
    training_cells, validation_cells
        Positions, disjoint.

    Raises
    ------
    InputError
        If no cell is left to train on, or one is in both sets.
    """

    config: TrainingConfig
    objective: ObjectiveConfig
    modality_weights: tuple[float, ...]
    adaptive: bool
    training_cells: np.ndarray
    validation_cells: np.ndarray

    def __post_init__(self) -> None:
        if len(self.training_cells) == 0:
            raise InputError(
                f"All {len(self.validation_cells)} cells are held out and none is left to train on. Hold out "
                "fewer: model.train(validation_size=0.1)"
            )
        shared = np.intersect1d(self.training_cells, self.validation_cells)
        if len(shared):
            raise InputError(
                f"{len(shared)} cells are both trained on and held out, the first at position {shared[0]}. "
                "Give disjoint sets: model.train(validation_indices=held_out)"
            )


def split_cells(n_cells: int, validation_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the held-out cells: (training, validation), both sorted.

    At least one cell is held out unless ``validation_size`` is 0; at least one is trained on.
    """
    n_validation = 0 if validation_size == 0 else min(max(1, round(validation_size * n_cells)), n_cells - 1)
    order = np.random.default_rng(seed).permutation(n_cells)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def split_donors(donor: np.ndarray, validation_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw held-out donors: (training, validation) cells, both sorted; no donor is on both sides.

    Parameters
    ----------
    donor
        Codes, ``(N,)``; cells of unknown donors (-1) are drawn one by one.
    validation_size
        Share of the donors; at least one is held out unless it is 0, and at least one is trained on.
    seed
        Of the draw.
    """
    donors = np.unique(donor[donor >= 0])
    _, held_out = split_cells(len(donors), validation_size, seed)
    alone = np.flatnonzero(donor < 0)
    _, chosen = split_cells(len(alone), validation_size, seed) if len(alone) > 1 else (alone, alone[:0])
    validation = np.union1d(np.flatnonzero(np.isin(donor, donors[held_out])), alone[chosen])
    return np.setdiff1d(np.arange(len(donor)), validation), validation


def donors_on_both_sides(donor: np.ndarray, training: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Codes of donors with cells in both sets."""
    both = np.intersect1d(donor[training], donor[validation])
    return both[both >= 0]


def fingerprint(cell_names: np.ndarray) -> str:
    """Short text that tells lists of cells apart, their order included."""
    return hashlib.blake2b("\n".join(map(str, cell_names)).encode(), digest_size=16).hexdigest()
