"""What a head says of cells or donors before it becomes a probability: scores at the mean and draws of z."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.inference import Inferred, infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.analysis.outcomes.pooled import PooledSums
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.donors import donor_outcomes
from multiomics_vae.errors import InputError
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.module import MultimodalModule


@dataclass(frozen=True, eq=False)
class OutcomeScores:
    """Scores of G cells or donors, before any calibration.

    Parameters
    ----------
    units
        Names of the cells, or of the donors, ``(G,)``.
    at_mean
        At the mean of z, ``(G, S)``, float32.
    draws
        At draws of z, ``(n_samples, G, S)``, float32.
    labels
        What is known of them, as heads read it, ``(G, n_columns)``, float32; NaN where it is not.
    n_cells
        Cells that each was predicted from, ``(G,)``.
    cell_names, attention
        Of the cells of donors, and what each counts in its donor at the mean of z (adding up to 1 in each);
        both ``(N,)``. Empty where cells are predicted.
    """

    units: np.ndarray
    at_mean: Tensor
    draws: Tensor
    labels: np.ndarray
    n_cells: np.ndarray
    cell_names: np.ndarray
    attention: np.ndarray

    def of(self, units: np.ndarray) -> OutcomeScores:
        """The same of some units, by position; the attention stays that of all."""
        return replace(
            self,
            units=self.units[units],
            at_mean=self.at_mean[units],
            draws=self.draws[:, units],
            labels=self.labels[units],
            n_cells=self.n_cells[units],
        )


def reader_of(module: MultimodalModule, data: MultimodalData, outcome: str) -> OutcomeReader:
    """The head of an outcome.

    Raises
    ------
    InputError
        If there is no such outcome, or no head was asked for.
    """
    for reader in module.readers:
        if reader.name == outcome:
            return reader
    data.schema.outcome(outcome)
    known = [reader.name for reader in module.readers]
    have = f"It has heads of {known}" if known else "It has none"
    raise InputError(
        f"The model has no head that predicts {outcome!r}. {have}. Make a model that has it, and train it: "
        f"MultiVAE(mdata, heads={{{outcome!r}: Head(level='cell')}})"
    )


def outcome_scores(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    reader: OutcomeReader,
    n_samples: int,
    given: tuple[int, ...] | None = None,
    seed: int = 0,
) -> OutcomeScores:
    """Score some cells, or the donors that they are of.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the registered cells, the positions wanted.
    reader
        The head.
    n_samples
        Draws of z a cell. A cell's draws do not depend on the cells beside it.
    given
        Positions of the modalities to condition on; None for all that a cell has.
    seed
        Of the draws.
    """
    if reader.of_donors:
        return _of_donors(module, data, cells, batch_size, reader, n_samples, given, seed)
    columns = data.schema.label_columns(reader.name)
    found = np.empty((1 + n_samples, len(cells), reader.output.n_scores), np.float32)
    start = 0
    with memory_for(batch_size):
        for inferred in infer(module, data, cells, batch_size, given, seed):
            stop = start + inferred.minibatch.n_cells
            found[:, start:stop] = reader.of_cells(mean_and_draws(inferred, n_samples)).cpu().numpy()
            start = stop
    scores = torch.from_numpy(found)
    return OutcomeScores(
        units=data.cell_names[cells],
        at_mean=scores[0],
        draws=scores[1:],
        labels=data.outcomes[cells][:, columns],
        n_cells=np.ones(len(cells), dtype=np.int64),
        cell_names=data.cell_names[:0],
        attention=np.empty(0),
    )


def mean_and_draws(inferred: Inferred, n_samples: int) -> Tensor:
    """The mean of z, then draws: ``(1 + n_samples, B, K)``."""
    mean = inferred.fused.posterior.mean
    if n_samples == 0:
        return mean[None]
    return torch.cat([mean[None], inferred.sample(n_samples).to(mean.dtype)])


def _of_donors(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    reader: OutcomeReader,
    n_samples: int,
    given: tuple[int, ...] | None,
    seed: int,
) -> OutcomeScores:
    labels = donor_outcomes(data, data.schema.outcome(reader.name))
    cells = cells_of_donors(data, cells, reader)
    donors, group = np.unique(data.donor[cells], return_inverse=True)
    sums = PooledSums(1 + n_samples, len(donors), reader.hidden.n_outputs)
    log_weights = torch.empty(len(cells))
    start = 0
    with memory_for(batch_size):
        for inferred in infer(module, data, cells, batch_size, given, seed):
            here = slice(start, start + inferred.minibatch.n_cells)
            features, weights = reader.weighed(mean_and_draws(inferred, n_samples))
            sums.add(features, weights, torch.from_numpy(group[here]))
            log_weights[here] = weights[0].cpu()
            start = here.stop
    with torch.inference_mode():
        pooled = sums.averages().to(next(reader.parameters()).device)
        scores = reader.output(pooled).cpu()
    return OutcomeScores(
        units=np.asarray(data.labels.donor_names, dtype=object)[donors] if data.labels else donors,
        at_mean=scores[0],
        draws=scores[1:],
        labels=labels[donors],
        n_cells=np.bincount(group),
        cell_names=data.cell_names[cells],
        attention=sums.weights(log_weights, torch.from_numpy(group)).numpy(),
    )


def cells_of_donors(data: MultimodalData, cells: np.ndarray, reader: OutcomeReader) -> np.ndarray:
    """Those of some cells whose donor is known.

    Raises
    ------
    InputError
        If there are none.
    """
    known: np.ndarray = cells[data.donor[cells] >= 0]
    if len(known) == 0:
        raise InputError(
            f"{reader.name!r} is predicted of donors, and the donor of none of these cells is known. Say "
            f"whose they are: mdata.obs[{data.schema.donor_key!r}] = ..."
        )
    return known
