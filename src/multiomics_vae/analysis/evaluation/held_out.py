"""Held-out log likelihood of every modality: from all that a cell has, from one modality, from nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from multiomics_vae.analysis.bounds import evidence_bounds
from multiomics_vae.analysis.evaluation.question import ALL, NOTHING, Question, standard_error


@dataclass(frozen=True)
class HeldOut:
    """Expected log likelihoods and divergences, in nats a cell.

    Parameters
    ----------
    table
        A row for each modality and each evidence: ``modality``, ``given``, ``mean`` of
        E_{q(z|x_given)} log p(x_m | z), ``standard_error`` over cells, ``n_cells``. ``given`` is
        ``"all"`` that a cell has (x_m too), one modality (its own, or another: across), or ``"nothing"``
        (z from N(0, I)).
    elbo
        Mean and standard error over cells, of the joint posterior.
    kl
        Mean of KL(q(z | x_given) ‖ p(z)) for each evidence but nothing.
    gain
        For each modality the mean of what it gains when z is that of the cell and not one from
        N(0, I), and the standard error: 0 if the decoder ignores z.
    """

    table: pd.DataFrame
    elbo: tuple[float, float]
    kl: dict[str, float]
    gain: dict[str, tuple[float, float]]


def held_out(question: Question) -> HeldOut:
    """Take the expected log likelihoods from every single modality, from all, and from nothing."""
    names, present = question.names, question.present
    evidence: dict[str, tuple[int, ...] | None] = {ALL: None}
    if len(names) > 1:
        evidence |= {name: (m,) for m, name in enumerate(names)}
    evidence[NOTHING] = ()
    rows, kl, found = [], {}, {}
    for given, positions in evidence.items():
        bounds = evidence_bounds(
            question.module,
            question.data,
            question.cells,
            question.batch_size,
            question.n_samples,
            positions,
            question.seed,
        )
        known = present[:, list(positions)].all(axis=1) if positions else np.full(len(present), True)  # (N,)
        for m, name in enumerate(names):
            each = bounds.log_likelihood[known & present[:, m], m]
            mean = float(each.mean()) if len(each) else float("nan")
            rows.append((name, given, mean, standard_error(each), len(each)))
        found[given] = bounds
        if given != NOTHING:
            kl[given] = float(bounds.kl[known].mean()) if known.any() else float("nan")
    gain = {}
    for m, name in enumerate(names):
        each = (found[ALL].log_likelihood - found[NOTHING].log_likelihood)[present[:, m], m]
        gain[name] = (float(each.mean()) if len(each) else float("nan"), standard_error(each))
    table = pd.DataFrame(rows, columns=["modality", "given", "mean", "standard_error", "n_cells"])
    elbo = found[ALL].elbo
    return HeldOut(table, (float(elbo.mean()), standard_error(elbo)), kl, gain)
