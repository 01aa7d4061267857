"""From scores to what a person reads: probabilities and their spread over draws of z, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multiomics_vae.analysis.outcomes.scores import OutcomeScores
from multiomics_vae.heads import ClassHead, NumberHead, OutcomeHead, TimeHead

QUANTILES = (0.05, 0.95)
BISECTIONS = 60


def probabilities(head: ClassHead, scores: OutcomeScores, temperature: float = 1.0) -> np.ndarray:
    """p(y | x) = average over draws of z of p(y | z), ``(G, Q)``, float64; rows add up to 1."""
    return draw_probabilities(head, scores, temperature).mean(0).numpy()


def draw_probabilities(head: ClassHead, scores: OutcomeScores, temperature: float = 1.0) -> Tensor:
    """p(y | z) of every draw: ``(n_samples, G, Q)``, float64."""
    with torch.inference_mode():
        return head.log_probabilities(scores.draws.double().to(_device(head)) / temperature).exp().cpu()


def outcome_table(
    head: OutcomeHead, scores: OutcomeScores, level: float, temperature: float = 1.0
) -> pd.DataFrame:
    """One row a cell or donor; columns as the kind of head has them.

    Parameters
    ----------
    head, scores
        What is predicted, and the scores.
    level
        Share of the draws of z that an interval of a probability holds, and that must agree on a category.
    temperature
        Divides the scores of a head of categories.
    """
    if isinstance(head, ClassHead):
        columns = _classes(head, scores, level, temperature)
    elif isinstance(head, NumberHead):
        columns = number_columns(head, scores)
    elif isinstance(head, TimeHead):
        columns = _times(head, scores)
    else:
        raise TypeError(f"{type(head).__name__} derives from none of ClassHead, NumberHead and TimeHead")
    if len(scores.cell_names):
        columns["n_cells"] = scores.n_cells
    return pd.DataFrame(columns, index=pd.Index(scores.units))


def _classes(
    head: ClassHead, scores: OutcomeScores, level: float, temperature: float
) -> dict[str, np.ndarray]:
    drawn = draw_probabilities(head, scores, temperature)  # (n_samples, G, Q)
    mean = drawn.mean(0)  # (G, Q)
    best = mean.argmax(1)  # (G,)
    of_best = drawn[:, torch.arange(len(best)), best]  # (n_samples, G)
    tail = 0.5 * (1.0 - level)
    agreement = (drawn.argmax(-1) == best).double().mean(0)  # (G,)
    names = np.asarray(head.outcome.categories, dtype=object)
    columns = {f"p_{name}": mean[:, code].numpy() for code, name in enumerate(names)}
    return {
        **columns,
        "prediction": names[best.numpy()],
        "lower": of_best.quantile(tail, dim=0).numpy(),
        "upper": of_best.quantile(1.0 - tail, dim=0).numpy(),
        "abstain": (agreement < level).numpy(),
    }


def number_columns(head: NumberHead, scores: OutcomeScores) -> dict[str, np.ndarray]:
    """Mean, standard deviation and quantiles in the unit of the outcome, ``(G,)`` each."""
    with torch.inference_mode():
        means, sds = (part.double().cpu() for part in head.mean_and_sd(scores.draws.to(_device(head))))
    variance = (sds**2).mean(0) + means.var(0, correction=0)  # (G,)
    shift, scale = head.outcome.mean, head.outcome.sd
    columns = {"mean": means.mean(0), "sd": variance.sqrt()}
    columns |= {f"q{round(100 * share):02d}": mixture_quantile(means, sds, share) for share in QUANTILES}
    return {
        name: ((0.0 if name == "sd" else shift) + scale * values).numpy() for name, values in columns.items()
    }


def mixture_quantile(means: Tensor, sds: Tensor, share: float) -> Tensor:
    """Quantile of an even mixture of Gaussians, by bisection: ``(n_samples, G)`` -> ``(G,)``."""
    low, high = (means - 9.0 * sds).amin(0), (means + 9.0 * sds).amax(0)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        below = torch.special.ndtr((middle - means) / sds).mean(0) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


def _times(head: TimeHead, scores: OutcomeScores) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        risk = head.risk(scores.draws.to(_device(head))).mean(0).cpu()  # (G,)
    return {"risk": risk.double().numpy(), "median_time": _median_time(head, scores)}


def survival_table(head: TimeHead, scores: OutcomeScores, times: Sequence[float] | np.ndarray) -> np.ndarray:
    """P(event later than each time), averaged over draws of z: ``(G, T)``, float64."""
    scaled = torch.as_tensor(np.asarray(times, dtype=np.float64) / head.outcome.time_scale)
    with torch.inference_mode():
        found = head.log_survival(scores.draws.to(_device(head)), scaled.float().to(_device(head)))
    return found.double().exp().mean(0).cpu().numpy()


def _median_time(head: TimeHead, scores: OutcomeScores) -> np.ndarray:
    """First time at which survival is one half or less, NaN if it is higher to the end: ``(G,)``."""
    grid = head.grid.double().cpu().numpy() * head.outcome.time_scale
    times = np.unique(np.concatenate([grid, np.linspace(0.0, grid[-1], 257)]))
    times = times[times <= grid[-1]]
    survival = survival_table(head, scores, times)  # (G, T)
    reached = survival <= 0.5
    first = reached.argmax(1)
    return np.where(reached.any(1), times[first], np.nan)


def _device(head: OutcomeHead) -> torch.device:
    return next(head.parameters()).device
