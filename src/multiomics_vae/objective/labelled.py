"""From what a step has inferred to the costs of the heads: only what has a label costs anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.donors import donor_outcomes
from multiomics_vae.data.minibatch import LabelBatch, Minibatch
from multiomics_vae.errors import InputError
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.loss_terms import LossTerm
from multiomics_vae.objective.views import View

HEAD_TERM = "head_"
"""Begins the names of their terms."""


@dataclass(frozen=True, eq=False)
class Supervision:
    """What a training knows of one outcome, whatever stands in a minibatch.

    Parameters
    ----------
    columns
        Where the outcome's labels stand.
    scale
        Training cells over those that count, by which the weight is multiplied: an outcome known for few
        cells weighs as much as one known for all.
    donors
        Label of each donor, ``(D, n_columns)``; None for an outcome of cells.
    mass
        What a cell of each donor counts, ``(D,)``: all donors count the same, however many cells they have.
    """

    columns: slice
    scale: float
    donors: Tensor | None = None
    mass: Tensor | None = None


def supervise(
    data: MultimodalData, readers: Sequence[OutcomeReader], cells: np.ndarray
) -> dict[str, Supervision]:
    """Look up the labels of a training, by outcome.

    Parameters
    ----------
    data
        Registered cells, training and held-out ones.
    readers
        The heads.
    cells
        Those that are trained on.

    Raises
    ------
    InputError
        If an outcome has no label among these.
    """
    found = {}
    for reader in readers:
        columns = data.schema.label_columns(reader.name)
        if reader.of_donors:
            labels = donor_outcomes(data, data.schema.outcome(reader.name))  # (D, n_columns)
            known = (data.donor >= 0) & ~np.isnan(labels).any(1)[data.donor]
        else:
            labels = np.empty((0, 0), np.float32)
            known = ~np.isnan(data.outcomes[:, columns]).any(1)
        n_known = int(known[cells].sum())
        if n_known == 0:
            raise InputError(
                f"No training cell has a label of the outcome {reader.name!r}, so nothing can be learned. "
                "Hold out others: model.train(validation_indices=held_out)"
            )
        scale = len(cells) / n_known
        if not reader.of_donors:
            found[reader.name] = Supervision(columns, scale)
            continue
        sizes = np.bincount(data.donor[known], minlength=len(labels))  # (D,)
        n_donors = len(np.unique(data.donor[cells][known[cells]]))
        mass = n_known / (n_donors * np.maximum(sizes, 1.0))
        found[reader.name] = Supervision(
            columns, scale, torch.from_numpy(labels), torch.from_numpy(mass.astype(np.float32))
        )
    return found


@torch.no_grad()
def start_heads(readers: Sequence[OutcomeReader], data: MultimodalData) -> None:
    """Let new heads begin at the frequencies of all registered labels, as decoders begin at those of x."""
    for reader in readers:
        outcome = data.schema.outcome(reader.name)
        labels = (
            donor_outcomes(data, outcome)
            if reader.of_donors
            else data.outcomes[:, data.schema.label_columns(reader.name)]
        )
        reader.output.start_from(torch.from_numpy(labels))


@torch.no_grad()
def settle_heads(
    readers: Sequence[OutcomeReader],
    supervision: Mapping[str, Supervision],
    data: MultimodalData,
    cells: np.ndarray,
) -> None:
    """Let heads learn what follows from the labels of the training cells alone, before the first step."""
    for reader in readers:
        known = supervision[reader.name]
        if known.donors is not None:
            trained = np.unique(data.donor[cells])
            labels = known.donors[torch.from_numpy(trained[trained >= 0])]
        else:
            labels = torch.from_numpy(data.outcomes[cells][:, known.columns])
        reader.output.learn_from(labels.to(next(reader.parameters()).device))


def head_terms(
    readers: Sequence[OutcomeReader],
    minibatch: Minibatch,
    view: View,
    supervision: Mapping[str, Supervision],
) -> list[LossTerm]:
    """One term a head: its cost summed over what has a label, over the cells of the minibatch.

    Parameters
    ----------
    readers
        The heads.
    minibatch, view
        Cells, and their posterior with a draw from each of its components.
    supervision
        As `supervise` made it; heads that it does not hold give no term.
    """
    if minibatch.labels is None:
        return []
    terms = []
    for reader in readers:
        if reader.name not in supervision:
            continue
        known = supervision[reader.name]
        z = view.z.detach() if reader.head.detach else view.z  # (C, B, K)
        cost = _of_cells if known.donors is None else _of_donors
        total, n_counted = cost(reader, z, view, minibatch.labels, known)
        terms.append(
            LossTerm(
                f"{HEAD_TERM}{reader.name}",
                total / minibatch.n_cells,
                reader.head.weight * known.scale,
                n_counted=n_counted,
            )
        )
    return terms


def _of_cells(
    reader: OutcomeReader, z: Tensor, view: View, labels: LabelBatch, known: Supervision
) -> tuple[Tensor, Tensor]:
    """Sum of the costs of cells, each averaged over its draws; and how many have a label."""
    own = labels.values[:, known.columns]  # (B, n_columns)
    weights = view.weights.detach() if reader.head.detach else view.weights  # (C, B)
    total = z.new_zeros(())
    for scores, weight in zip(reader.of_cells(z), weights, strict=True):
        total = total + (weight * reader.output.negative_log_likelihood(scores, own)).sum()
    return total, (~own.isnan().any(1)).sum()


def _of_donors(
    reader: OutcomeReader, z: Tensor, view: View, labels: LabelBatch, known: Supervision
) -> tuple[Tensor, Tensor]:
    """Sum of the costs of donors, each times what its cells here count; and what they count together."""
    assert known.donors is not None
    assert known.mass is not None
    there = labels.donor >= 0
    # With no donor at all the gradient is 0 of every parameter, which several processes wait for.
    if not bool(there.any()):
        return 0.0 * reader.of_cells(z).sum() + 0.0 * reader.weighed(z)[1].sum(), there.sum()
    codes, group = torch.unique(labels.donor[there], return_inverse=True)  # (G,), (B',)
    log_mass = view.posterior.log_weights[:, there]
    scores = reader.of_groups(
        z[:, there], log_mass.detach() if reader.head.detach else log_mass, group, len(codes)
    )
    own = known.donors.to(z.device)[codes]  # (G, n_columns)
    mass = known.mass.to(z.device)[codes] * torch.bincount(group, minlength=len(codes))  # (G,)
    has_label = ~own.isnan().any(1)
    mass = torch.where(has_label, mass, 0.0)
    cost = reader.output.negative_log_likelihood(scores, own)
    if reader.output.compares_rows:
        # Each donor is one row of the risk sets, whatever its cells count.
        mass = torch.where(has_label, mass.sum() / has_label.sum().clamp(min=1), 0.0)
    return (mass * cost).sum(), mass.sum()
