"""Temperature scaling: one number, learned from held-out rows, that makes probabilities honest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp

# log T is held to ±3: a handful of rows that all come right would drive T to 0, certainty.
MOST_LOG = 3.0
PRIOR_SD = 1.0
TINY = 1e-30


@dataclass(frozen=True)
class Temperature:
    """Divide logits by T: above 1 the model was too sure, below 1 not sure enough (Guo et al. 2017).

    Parameters
    ----------
    value
        T; 1 changes nothing.
    n
        Rows it was learned from.
    ordinal
        Divide the cumulative logits log P(y ≤ k)/P(y > k) and not those of single classes, so that an
        ordinal head stays one.
    """

    value: float = 1.0
    n: int = 0
    ordinal: bool = False

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities after scaling, ``(..., n, K)`` of the same shape."""
        return np.asarray(np.exp(scaled_log_probabilities(_logs(probabilities), self.value, self.ordinal)))


def fit_temperature(codes: np.ndarray, probabilities: np.ndarray, *, ordinal: bool = False) -> Temperature:
    """T that minimises the negative log likelihood of held-out rows plus (log T)² / 2.

    The second term is a prior of one unit on log T. It is nothing beside a hundred rows, and keeps a handful
    of donors that all come right from claiming certainty.

    Parameters
    ----------
    codes
        True classes, ``(n,)``.
    probabilities
        Of rows that the model was not fitted on, ``(n, K)``, or given each of S draws of z, ``(S, n, K)``,
        which are scaled one by one and then averaged. Probabilities tell all of the logits that matters:
        softmax(log p / T) is softmax(logits / T).
    ordinal
        As in `Temperature`.

    Examples
    --------
    >>> p = np.tile([[0.99, 0.01]], (100, 1))
    >>> codes = (np.arange(100) % 4 == 0).astype(int)         # right in three of four cases
    >>> fit_temperature(codes, p).value > 3
    True
    """
    if len(codes) == 0:
        return Temperature(ordinal=ordinal)
    logs = _logs(probabilities)
    logs = logs[None] if logs.ndim == 2 else logs  # (S, n, K)
    rows = np.arange(len(codes))
    own = np.asarray(codes, dtype=np.int64)

    def loss(temperature: float) -> float:
        scaled = scaled_log_probabilities(logs, temperature, ordinal)
        return float(-(logsumexp(scaled[:, rows, own], axis=0) - np.log(len(scaled))).sum())

    return Temperature(best_temperature(loss), len(own), ordinal)


def best_temperature(loss: Callable[[float], float]) -> float:
    """T that minimises a negative log likelihood in nats plus (log T)² / 2.

    Parameters
    ----------
    loss
        Of a temperature, summed over held-out rows (of rows in donors: averages of donors, summed).
    """

    def penalised(log_t: float) -> float:
        return loss(float(np.exp(log_t))) + 0.5 * (log_t / PRIOR_SD) ** 2

    return float(np.exp(minimize_scalar(penalised, bounds=(-MOST_LOG, MOST_LOG), method="bounded").x))


def scaled_log_probabilities(logs: np.ndarray, temperature: float, ordinal: bool) -> np.ndarray:
    """Log probabilities after dividing the logits, ``(..., n, K)``."""
    if not ordinal:
        scaled: np.ndarray = log_softmax(logs / temperature, axis=-1)
        return scaled
    below = np.stack(
        [
            logsumexp(logs[..., : k + 1], axis=-1) - logsumexp(logs[..., k + 1 :], axis=-1)
            for k in range(logs.shape[-1] - 1)
        ],
        axis=-1,
    )  # (..., n, K - 1), rising
    cumulative = expit(below / temperature)
    zeros, ones = np.zeros_like(cumulative[..., :1]), np.ones_like(cumulative[..., :1])
    edges = np.concatenate([zeros, cumulative, ones], axis=-1)
    return np.asarray(np.log(np.maximum(np.diff(edges, axis=-1), TINY)))


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), TINY))
