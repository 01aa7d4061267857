"""Entropy of the posterior as evidence is taken away: less evidence must not mean more certainty."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from torch import Tensor

from multiomics_vae.analysis.evaluation.question import NOTHING, Question, mean_and_error
from multiomics_vae.analysis.inference import Inferred, infer
from multiomics_vae.analysis.memory import memory_for

MOST_FOR_ALL_SUBSETS = 6
TOLERANCE = 0.01  # nats: what float32 and a learned width may differ by without meaning anything


@dataclass(frozen=True)
class Overconfidence:
    """Evidence that makes the posterior less sure when there is more of it.

    Parameters
    ----------
    less, more
        Names of the modalities, joined by ``+``.
    excess
        Mean over the cells of H(q(z | more)) − H(q(z | less)), nats.
    """

    less: str
    more: str
    excess: float


@dataclass(frozen=True)
class Entropies:
    """Mean entropy for every subset of the modalities.

    Parameters
    ----------
    table
        ``given``, ``n_modalities``, ``entropy`` (mean over the cells that have all of them, nats),
        ``standard_error``, ``n_cells``.
    overconfident
        Pairs in which the entropy rises with the evidence, on the same cells; the largest first.
    """

    table: pd.DataFrame
    overconfident: tuple[Overconfidence, ...]


def subsets_of(n_modalities: int) -> list[tuple[int, ...]]:
    """All subsets, from nothing to everything; beyond 6 modalities only 0, 1, M − 1 and M of them."""
    every = range(n_modalities + 1)
    sizes = every if n_modalities <= MOST_FOR_ALL_SUBSETS else (0, 1, n_modalities - 1, n_modalities)
    return [subset for size in sizes for subset in combinations(range(n_modalities), size)]


def posterior_entropy(inferred: Inferred, n_samples: int) -> Tensor:
    """Entropy of q, ``(B,)``: ½ Σ (log σ² + log 2πe) of a Gaussian, −E_q log q by draws of a mixture."""
    posterior = inferred.fused.posterior
    if posterior.n_components == 1:
        return posterior.gaussian.entropy()
    return -posterior.log_prob(inferred.sample(n_samples)).mean(0)


def entropy_of_subset(question: Question, given: tuple[int, ...]) -> np.ndarray:
    """Entropy of q(z | x_A) of every cell, ``(N,)``; NaN for a cell that lacks some of A."""
    with memory_for(question.batch_size):
        blocks = [
            posterior_entropy(inferred, question.n_samples).double().cpu().numpy()
            for inferred in infer(
                question.module, question.data, question.cells, question.batch_size, given, question.seed
            )
        ]
    entropy = np.concatenate(blocks) if blocks else np.empty(0)
    return np.where(question.present[:, list(given)].all(axis=1), entropy, np.nan)


def entropies(question: Question) -> Entropies:
    """Mean entropy over all subsets, and where it rises with evidence by more than its noise.

    The expected entropy of exact posteriors never rises: H(z | x_A) ≥ H(z | x_B) for A ⊂ B.
    """
    subsets = subsets_of(len(question.names))
    each = {subset: entropy_of_subset(question, subset) for subset in subsets}
    label = {subset: "+".join(question.names[m] for m in subset) or NOTHING for subset in subsets}
    rows = []
    for subset in subsets:
        found = each[subset][np.isfinite(each[subset])]
        rows.append((label[subset], len(subset), *mean_and_error(found), len(found)))
    wrong = []
    for less, more in ((a, b) for a in subsets for b in subsets if set(a) < set(b)):
        excess = each[more] - each[less]
        excess = excess[np.isfinite(excess)]
        mean, error = mean_and_error(excess)
        if mean > max(TOLERANCE, 2.0 * error):
            wrong.append(Overconfidence(label[less], label[more], mean))
    columns = ["given", "n_modalities", "entropy", "standard_error", "n_cells"]
    wrong.sort(key=lambda found: -found.excess)
    return Entropies(pd.DataFrame(rows, columns=columns), tuple(wrong))
