"""Harrell's C: how well a risk ranks patients whose times are partly censored."""

from __future__ import annotations

import numpy as np

PAIRS_AT_ONCE = 1 << 22


def concordance_index(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Share of comparable pairs in which the one who died first had the higher risk (Harrell et al. 1982).

    A pair is comparable if the earlier of the two times is a death; of equal times, if one is a death and
    the other is censored, who lived longer. Equal risks count half.

    Parameters
    ----------
    time, event
        Time of death or censoring, and which it is (bool or 0/1), ``(n,)``.
    risk
        Higher is worse, ``(n,)``.

    Returns
    -------
    float
        NaN where no pair can be compared.

    Examples
    --------
    >>> concordance_index(np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1]), np.array([3.0, 2.0, 1.0]))
    1.0
    """
    time, risk = np.asarray(time, dtype=np.float64), np.asarray(risk, dtype=np.float64)
    died = np.asarray(event, dtype=bool)
    deaths = np.flatnonzero(died)
    score, n_pairs = 0.0, 0
    rows = max(1, PAIRS_AT_ONCE // max(len(time), 1))
    for start in range(0, len(deaths), rows):
        first = deaths[start : start + rows]
        later = (time[first, None] < time) | ((time[first, None] == time) & ~died)  # (D, n)
        difference = risk[first, None] - risk  # (D, n)
        score += float((later * ((difference > 0) + 0.5 * (difference == 0))).sum())
        n_pairs += int(later.sum())
    return score / n_pairs if n_pairs else float("nan")
