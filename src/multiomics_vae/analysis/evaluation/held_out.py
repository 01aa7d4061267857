"""Held-out log likelihood of every modality: from all that a cell has, from one modality, from nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from multiomics_vae.analysis.bounds import evidence_bounds
from multiomics_vae.analysis.evaluation.question import ALL, NOTHING, Question, mean_and_error


@dataclass(frozen=True)
class HeldOut:
    """Expected log likelihoods and divergences, in nats a cell.

    Parameters
    ----------
    table
        A row for each modality and each evidence: ``modality``, ``given``, ``mean`` of
        E_{q(z|x_given)} log p(x_m | z), ``standard_error`` over cells, ``gain`` and ``gain_error`` (of the
        mean above that with z from N(0, I), on the same cells), ``n_cells``. ``given`` is ``"all"`` that a
        cell has (x_m too), one modality (its own, or another: across), or ``"nothing"`` (z from N(0, I)).
    elbo
        Mean and standard error over cells, of the joint posterior.
    kl
        Mean of KL(q(z | x_given) ‖ p(z)) for each evidence but nothing.
    """

    table: pd.DataFrame
    elbo: tuple[float, float]
    kl: dict[str, float]

    @property
    def gain(self) -> dict[str, tuple[float, float]]:
        """What a cell's z is worth to each modality, and the error: 0 if its decoder ignores z."""
        rows = self.table[self.table["given"] == ALL]
        return {
            str(name): (float(gain), float(error))
            for name, gain, error in zip(rows["modality"], rows["gain"], rows["gain_error"], strict=True)
        }


def held_out(question: Question) -> HeldOut:
    """Take the expected log likelihoods from every single modality, from all, and from nothing."""
    names, present = question.names, question.present
    evidence: dict[str, tuple[int, ...] | None] = {ALL: None}
    if len(names) > 1:
        evidence |= {name: (m,) for m, name in enumerate(names)}
    evidence[NOTHING] = ()
    found = {
        given: evidence_bounds(
            question.module,
            question.data,
            question.cells,
            question.batch_size,
            question.n_samples,
            positions,
            question.seed,
        )
        for given, positions in evidence.items()
    }
    rows, kl = [], {}
    for given, positions in evidence.items():
        bounds = found[given]
        known = present[:, list(positions)].all(axis=1) if positions else np.full(len(present), True)  # (N,)
        for m, name in enumerate(names):
            having = known & present[:, m]
            each = bounds.log_likelihood[having, m]
            gain = each - found[NOTHING].log_likelihood[having, m]
            rows.append((name, given, *mean_and_error(each), *mean_and_error(gain), len(each)))
        if given != NOTHING:
            kl[given] = float(bounds.kl[known].mean()) if known.any() else float("nan")
    columns = ["modality", "given", "mean", "standard_error", "gain", "gain_error", "n_cells"]
    return HeldOut(pd.DataFrame(rows, columns=columns), mean_and_error(found[ALL].elbo), kl)
