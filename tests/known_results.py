"""Results of cross-validations made from drawn predictions, with nothing trained."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax

from multiomics_vae.analysis.outcomes.conformal import conformal_classes
from multiomics_vae.analysis.outcomes.out_of_fold import OutOfFold
from multiomics_vae.analysis.outcomes.validated import CrossValidation, Run, judge

CATEGORIES = {
    "binary": ("no", "yes"),
    "categorical": ("gut", "lung", "skin"),
    "ordinal": ("mild", "moderate", "severe"),
}


def make_result(
    kind: str, n: int = 60, n_repeats: int = 2, seed: int = 0, n_draws: int = 60
) -> CrossValidation:
    """A model with signal, a clinical baseline with less, and a permuted run without."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=n)
    runs = []
    fold = np.tile(np.arange(n) % 5, (n_repeats, 1))
    for name, signal in (("model", 2.0), ("clinical", 1.0), ("permuted", 0.0)):
        score = signal * state + rng.normal(size=(n_repeats, n))
        truth, predicted = _draw(kind, state, score, rng)
        sets = None
        if kind in CATEGORIES and name == "model":
            rule = conformal_classes(truth, predicted[0], level=0.8, ordinal=kind == "ordinal")
            sets = np.stack([rule.sets(p) for p in predicted])
        if kind == "continuous" and name == "model":
            sets = predicted[..., :1] + 1.5 * predicted[..., 1:] * np.array([-1.0, 1.0])
        results = OutOfFold(kind, truth, predicted, fold)
        runs.append(Run(name, results, sets, np.ones(5 * n_repeats), np.full(5 * n_repeats, 9)))
    donors = np.array([f"d{i}" for i in range(n)], dtype=object)
    return judge("outcome", CATEGORIES.get(kind, ()), donors, runs, ("age",), 0.8, n_draws, 0)


def _draw(
    kind: str, state: np.ndarray, score: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    if kind == "binary":
        p = expit(score)
        return (state > 0).astype(float), np.stack([1 - p, p], axis=-1)
    if kind in CATEGORIES:
        codes = np.digitize(state, [-0.5, 0.5]).astype(float)
        return codes, softmax(np.stack([-score, 0.3 * np.ones_like(score), score], axis=-1), axis=-1)
    if kind == "continuous":
        return 3.0 * state, np.stack([2.0 * score, np.full_like(score, 1.5)], axis=-1)
    time = 500.0 * np.exp(-state) * rng.exponential(size=len(state))
    return np.stack([time, rng.random(len(state)) < 0.7], axis=1).astype(float), score[..., None]
