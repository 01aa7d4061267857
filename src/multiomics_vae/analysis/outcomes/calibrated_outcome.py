"""What held-out donors (or cells) teach about the predictions of a head: temperature and conformal scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.outcomes.conformal import HeldOutScores, class_scores, fewest_rows
from multiomics_vae.analysis.outcomes.tables import draw_probabilities, number_columns
from multiomics_vae.analysis.outcomes.temperature import best_temperature
from multiomics_vae.heads import ClassHead, NumberHead, OutcomeHead

if TYPE_CHECKING:
    from multiomics_vae.analysis.outcomes.scores import OutcomeScores

# Below this many donors a temperature says more about chance than about the head.
FEWEST_FOR_TEMPERATURE = 5
MOST_SCORES = 10_000


@dataclass(frozen=True, eq=False)
class OutcomeCalibration:
    """Learned from rows that the weights have not seen.

    The same rows give the temperature and then the scores. That is one number from all of them, and the
    promise of the sets holds but for it.

    Parameters
    ----------
    temperature
        Divides the scores of a head of categories; 1 where there were too few rows, or no categories.
    held_out
        1 − p of the true category, or |truth − mean| / sd.
    of_donors
        True if ``n_groups`` counts donors, not cells.
    """

    temperature: float
    held_out: HeldOutScores
    of_donors: bool

    @property
    def n_groups(self) -> int:
        """Held-out donors, or cells where an outcome is of cells."""
        return self.held_out.n_groups

    def suffices(self, level: float) -> bool:
        """Whether sets of this level can leave anything out."""
        return self.n_groups >= fewest_rows(level)

    def to_tensor(self) -> Tensor:
        """Temperature, groups and kind of group in front, then scores and their mass: ``(2, 2 + n)``."""
        head = np.array([[self.temperature, self.n_groups], [float(self.of_donors), 0.0]])
        rows = np.stack([self.held_out.scores, self.held_out.mass])
        if rows.shape[1] > MOST_SCORES:  # evenly spaced ranks; a threshold moves by 1e-4 of mass at the most
            rows = rows[:, np.linspace(0, rows.shape[1] - 1, MOST_SCORES).round().astype(np.int64)]
        return torch.from_numpy(np.concatenate([head, rows], axis=1))

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> OutcomeCalibration:
        """The inverse of `to_tensor`.

        Raises
        ------
        ValueError
            For numbers that cannot be.
        """
        values = tensor.numpy()
        if values.ndim != 2 or values.shape[0] != 2 or values.shape[1] < 2 or values.dtype != np.float64:
            raise ValueError(f"shape {tuple(tensor.shape)} and dtype {tensor.dtype}")
        (temperature, n_groups), (of_donors, _) = values[:, :2]
        scores, mass = values[:, 2:]
        is_sound = np.isfinite(values).all() and temperature > 0 and n_groups >= 0 and of_donors in (0.0, 1.0)
        if not is_sound or (np.diff(scores) < 0).any() or (np.diff(mass) < 0).any():
            raise ValueError("numbers that no calibration has")
        return cls(float(temperature), HeldOutScores(scores, mass, int(n_groups)), bool(of_donors))


def learn_calibration(
    head: OutcomeHead, scores: OutcomeScores, donors: np.ndarray | None, of_donors: bool
) -> OutcomeCalibration | None:
    """Temperature and conformal scores from held-out rows with a label.

    Parameters
    ----------
    head, scores
        The head, and what it says of rows that it was not trained on.
    donors
        Of each row, ``(G,)``, where rows are cells and the outcome is of donors: every donor counts the
        same then. None where every row counts the same.
    of_donors
        True if rows are donors, or ``donors`` is given.

    Returns
    -------
    OutcomeCalibration or None
        None for survival: a censored time has no score.
    """
    known = np.flatnonzero(~np.isnan(scores.labels).any(axis=1))
    scores = scores.of(known)
    groups = None if donors is None else donors[known]
    if isinstance(head, ClassHead):
        codes = scores.labels[:, 0].astype(np.int64)
        rows_of = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
        n_groups = len(np.unique(rows_of))
        temperature = 1.0
        if n_groups >= FEWEST_FOR_TEMPERATURE:
            weight = 1.0 / np.bincount(rows_of)[rows_of]
            temperature = best_temperature(lambda t: _loss(head, scores, codes, weight, t))
        probabilities = draw_probabilities(head, scores, temperature).mean(0).numpy()
        found = class_scores(codes, probabilities)
    elif isinstance(head, NumberHead):
        temperature = 1.0
        columns = number_columns(head, scores)
        truth = scores.labels[:, 0] * head.outcome.sd + head.outcome.mean
        found = np.abs(truth - columns["mean"]) / columns["sd"]
    else:
        return None
    return OutcomeCalibration(temperature, HeldOutScores.of(found, groups), of_donors)


def _loss(
    head: ClassHead, scores: OutcomeScores, codes: np.ndarray, weight: np.ndarray, temperature: float
) -> float:
    """Weighted negative log likelihood of the labels, nats."""
    p = draw_probabilities(head, scores, temperature).mean(0).numpy()  # (G, Q)
    own = np.take_along_axis(p, codes[:, None], 1)[:, 0]
    return float(-(weight * np.log(np.maximum(own, 1e-30))).sum())
