"""Importance weights: bounds on the log likelihood that tighten with the draws, and how unequal they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from multiomics_vae.analysis.evaluation.question import ALL, Question, mean_and_error
from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.memory import memory_for

BOUND_SIZES = (1, 10, 100, 1000)
MOST_ROWS = 2048  # draws times cells in one pass: memory grows with these and not with all S draws


@dataclass(frozen=True)
class DrawnDensities:
    """Log densities at S draws of z from one proposal q(z | x_A), for N cells.

    Parameters
    ----------
    log_likelihood
        log p(x_m | z_s), ``(S, N, M)``; 0 where a cell lacks the modality.
    log_ratio
        log p(z_s) − log q(z_s | x_A), ``(S, N)``.
    log_single
        log q(z_s | x_m) − log p(z_s) of every modality alone, ``(S, N, M)``; 0 where a cell lacks it.
    """

    log_likelihood: np.ndarray
    log_ratio: np.ndarray
    log_single: np.ndarray

    def log_weights(self, of: tuple[int, ...]) -> np.ndarray:
        """Log p(x_T, z_s) − log q(z_s | x_A) for the modalities T = ``of``: ``(S, N)``."""
        weights: np.ndarray = self.log_ratio + self.log_likelihood[:, :, list(of)].sum(axis=2)
        return weights

    def conditional_log_weights(self, of: int, given: int) -> np.ndarray:
        """Log p(x_m | z_s) + log q(z_s | x_n) − log q(z_s | x_A), m = ``of``, n = ``given``: ``(S, N)``."""
        weights: np.ndarray = self.log_weights((of,)) + self.log_single[:, :, given]
        return weights


def drawn_densities(question: Question, given: tuple[int, ...] | None, n_samples: int) -> DrawnDensities:
    """Draw S times from q(z | x_A) of every cell; memory beside the result grows with `MOST_ROWS` alone.

    Parameters
    ----------
    question
        The model and the cells.
    given
        A; None for all that a cell has.
    n_samples
        S.
    """
    module, n = question.module, len(question.cells)
    log_likelihood = np.zeros((n_samples, n, module.n_modalities))
    log_ratio = np.empty((n_samples, n))
    log_single = np.zeros((n_samples, n, module.n_modalities))
    cells_at_once = min(question.batch_size, 64)
    start = 0
    with memory_for(cells_at_once):
        for inferred in infer(module, question.data, question.cells, cells_at_once, given, question.seed):
            minibatch, posterior = inferred.minibatch, inferred.fused.posterior
            prior = module.prior_mixture()
            single = [
                module.fuse(inferred.evidence, minibatch.present & own).posterior
                for own in torch.eye(module.n_modalities, dtype=torch.bool, device=minibatch.present.device)
            ]
            z = inferred.sample(n_samples)  # (S, B, K)
            here = slice(start, start + minibatch.n_cells)
            step = max(1, MOST_ROWS // minibatch.n_cells)
            for low in range(0, n_samples, step):
                part = z[low : low + step]  # (s, B, K)
                draws = slice(low, low + len(part))
                of_prior = prior.log_prob(part).double()  # (s, B)
                log_ratio[draws, here] = (of_prior - posterior.log_prob(part)).cpu().numpy()
                for m, batch in enumerate(minibatch.modalities):
                    if len(batch.rows):
                        found = module.log_likelihood(m, batch, part, minibatch.covariates)
                        columns = start + batch.rows.cpu().numpy()
                        log_likelihood[draws, columns, m] = found.per_cell.double().cpu().numpy()
                        of_single = (single[m].log_prob(part) - of_prior)[:, batch.rows]  # (s, B_m)
                        log_single[draws, columns, m] = of_single.cpu().numpy()
            start = here.stop
    return DrawnDensities(log_likelihood, log_ratio, log_single)


def importance_weighted_bound(log_weights: np.ndarray, n_draws: int) -> np.ndarray:
    """Importance-weighted bound of every cell at a number of draws (Burda et al. 2016).

    log (1/S) Σ_s w_s, averaged over the disjoint groups of S draws that there are: no more noise than
    needed at small S, and never above the bound at a multiple of S with the same draws.

    Parameters
    ----------
    log_weights
        ``(S_max, N)``.
    n_draws
        S, at most S_max.

    Returns
    -------
    ndarray
        ``(N,)``.

    Examples
    --------
    >>> importance_weighted_bound(np.log([[1.0], [3.0]]), 2).round(4)
    array([0.6931])
    """
    n_groups = len(log_weights) // n_draws
    groups = log_weights[: n_groups * n_draws].reshape(n_groups, n_draws, -1)
    bound: np.ndarray = (logsumexp(groups, axis=1) - np.log(n_draws)).mean(axis=0)
    return bound


@dataclass(frozen=True)
class ImportanceTables:
    """What the importance weights say.

    Parameters
    ----------
    bounds
        Rows ``of`` (a modality or ``"all"``), ``given`` (the proposal), ``n_draws``, ``mean`` over cells of
        the bound on log p(x_of), ``standard_error``, ``n_cells``; nats a cell.
    variances
        Rows ``kind``, ``of``, ``given``, ``variance``, ``standard_error``, ``median``, ``n_cells``: mean
        (and median, where a few cells make the mean) over cells of the variance over draws of the log
        weights. With exact posteriors the first two are 0. After Wu & Goodman (2018):

        - ``joint``: log p(x, z) − log q(z | x) with z ~ q(z | x), all modalities of a cell;
        - ``marginal``: log p(x_m, z) − log q(z | x_m) with z ~ q(z | x_m);
        - ``conditional``: log p(x_m | z) + log q(z | x_n) − log q(z | x_m) with z ~ q(z | x_m), the weights
          of log p(x_m | x_n) with q(z | x_n) for p(z | x_n). Exact posteriors leave the variance of
          log p(x_n | z) given x_m, which is 0 only where x_n says no more of z.
    """

    bounds: pd.DataFrame
    variances: pd.DataFrame


def importance_tables(question: Question, n_draws: int) -> ImportanceTables:
    """Bounds at S = 1, 10, 100, 1000 (up to ``n_draws``), and variances of the log weights.

    Parameters
    ----------
    question
        The model and the cells; a cell costs M + 1 times ``n_draws`` decodings.
    n_draws
        Draws of z for each cell and proposal.
    """
    sizes = sorted({size for size in BOUND_SIZES if size <= n_draws} | {n_draws})
    names, bounds, variances = question.names, [], []
    everything = tuple(range(len(names)))

    def add(kind: str | None, of: str, given: str, weights: np.ndarray, bounded: bool = True) -> None:
        n_cells = weights.shape[1]
        if not n_cells:
            return
        if kind is not None and n_draws > 1:
            each = weights.var(axis=0, ddof=1)  # (N,)
            variances.append((kind, of, given, *mean_and_error(each), float(np.median(each)), n_cells))
        for size in sizes if bounded else ():
            bound = importance_weighted_bound(weights, size)  # (N,)
            bounds.append((of, given, size, *mean_and_error(bound), n_cells))

    add("joint", ALL, ALL, drawn_densities(question, None, n_draws).log_weights(everything))
    for source, given in enumerate(names) if len(names) > 1 else ():
        known = question.having(source)
        densities, present = drawn_densities(known, (source,), n_draws), known.present
        add("marginal", given, given, densities.log_weights((source,)))
        others = present.sum(axis=1) > 1
        add(None, ALL, given, densities.log_weights(everything)[:, others])
        for other, name in enumerate(names):
            if other != source:
                weights = densities.conditional_log_weights(source, other)[:, present[:, other]]
                add("conditional", given, name, weights, bounded=False)
    return ImportanceTables(
        pd.DataFrame(bounds, columns=["of", "given", "n_draws", "mean", "standard_error", "n_cells"]),
        pd.DataFrame(
            variances, columns=["kind", "of", "given", "variance", "standard_error", "median", "n_cells"]
        ),
    )


def importance_cells(question: Question, n_cells: int) -> Question:
    """Cells to spend many draws on: drawn from those with two modalities or more, else from all."""
    several = question.cells[question.present.sum(axis=1) > 1]
    chosen = replace(question, cells=several) if len(several) else question
    return chosen.drawn(n_cells)
