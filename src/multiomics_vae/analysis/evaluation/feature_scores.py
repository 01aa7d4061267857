"""How well each modality is imputed from each other one, feature by feature, overall and within types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from multiomics_vae.analysis.evaluation.correlation import pearson, spearman
from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.analysis.evaluation.ranking import rank_scores
from multiomics_vae.analysis.evaluation.values import SCORED, eligible_features, in_memory
from multiomics_vae.analysis.normalized import normalized_values
from multiomics_vae.data.matrices import dense
from multiomics_vae.likelihoods import LIKELIHOODS

PER_CELL = 1e4
FEATURES_AT_ONCE = 500


@dataclass(frozen=True)
class Truth:
    """Held-out values of the features that are scored.

    Parameters
    ----------
    values
        ``(G, N)``; features in rows.
    comparable
        The same where a straight line is asked about: log(1 + 10⁴ x / depth) of counts that are shares of
        a library, log(1 + x) of other counts, otherwise ``values``.
    measured
        ``(G, N)``, bool; None if all are.
    features
        Positions in the modality, ``(G,)``, sorted.
    n_eligible
        Features that could have been scored; ``features`` are drawn from these.
    """

    values: np.ndarray
    comparable: np.ndarray
    measured: np.ndarray | None
    features: np.ndarray
    n_eligible: int

    def part(self, rows: slice) -> Truth:
        """Some of the features."""
        measured = None if self.measured is None else self.measured[rows]
        return Truth(self.values[rows], self.comparable[rows], measured, self.features[rows], self.n_eligible)


def feature_scores(question: Question, n_features: int, labels: np.ndarray | None) -> pd.DataFrame:
    """Score the imputation of every modality from every other, on the cells that have both.

    Predictions are those of ``get_normalized(given=[other])``: the decoder's mean at the posterior mean,
    which reads nothing of the target, its depth included. 0/1 features are scored by AUROC and AUPRC,
    others by Pearson and Spearman correlation; codes of categories are not scored.

    Parameters
    ----------
    question
        The model and the cells.
    n_features
        At most so many features of a modality, drawn from those seen in enough cells.
    labels
        Type of each cell, ``(N,)``, None where unknown; None leaves the scores within types out.

    Returns
    -------
    DataFrame
        ``modality``, ``given``, ``score``, ``overall`` and ``within_type`` (means over features),
        ``n_features`` (scored), ``n_eligible``, ``n_cells``.
    """
    columns = ["modality", "given", "score", "overall", "within_type", "n_features", "n_eligible", "n_cells"]
    rows = []
    for target, schema in enumerate(question.data.schema.modalities):
        if LIKELIHOODS[schema.likelihood].support not in SCORED:
            continue
        for source, given in enumerate(question.names):
            if source == target:
                continue
            both = question.having(source, target)
            truth = held_out_values(both, target, n_features)
            own = None if labels is None else labels[np.isin(question.cells, both.cells)]
            found = _scores(both, target, source, truth, own) if len(truth.features) else {}
            size = len(truth.features), truth.n_eligible, len(both.cells)
            rows += [(schema.name, given, score, *means, *size) for score, means in found.items()]
    return pd.DataFrame(rows, columns=columns)


def held_out_values(question: Question, modality: int, n_features: int) -> Truth:
    """Values of the features that are seen in enough cells, or of as many of them drawn at random."""
    part = question.data.modalities[modality].loaded(question.cells)
    likelihood = question.module.likelihoods[modality]
    support = likelihood.support
    stored = in_memory(part.values)
    measured = part.observed  # (N, F)
    if support == "fractions":
        trials = dense(in_memory(part.coverage))
        measured = trials > 0
        stored = np.divide(dense(stored), trials, out=np.zeros_like(trials), where=measured)
    eligible = eligible_features(part, support)
    features = eligible
    if len(eligible) > n_features:
        generator = np.random.default_rng(question.seed)
        features = np.sort(generator.choice(eligible, n_features, replace=False))
    values = np.ascontiguousarray(dense(stored[:, features]).T)  # (G, N)
    comparable = values
    if support == "counts":
        scaled = values * (PER_CELL / part.depth) if likelihood.normalised_over_features else values
        comparable = np.log1p(scaled)
    masked = None if measured is None else np.ascontiguousarray(measured[:, features].T)
    return Truth(values, comparable, masked, features, len(eligible))


def _scores(
    question: Question, target: int, source: int, truth: Truth, labels: np.ndarray | None
) -> dict[str, tuple[float, float]]:
    """Means over features, overall and within types, by name of the score."""
    likelihood = question.module.likelihoods[target]
    scale = PER_CELL if likelihood.normalised_over_features else None
    predicted = normalized_values(
        question.module,
        question.data,
        question.cells,
        question.batch_size,
        target,
        truth.features,
        None,
        None,
        scale,
        (source,),
    )
    score = np.ascontiguousarray(predicted.T)  # (G, N)
    everyone = [np.arange(len(question.cells))]
    groups = [everyone, None if labels is None else groups_of(labels)]
    kinds = (
        ("auroc", "auprc", "auprc_of_chance") if likelihood.support == "binary" else ("pearson", "spearman")
    )
    means: list[list[float]] = []
    for chosen in groups:
        if chosen is None:
            means.append([float("nan")] * len(kinds))
            continue
        # Sorting takes several times the memory of the values.
        parts = [slice(low, low + FEATURES_AT_ONCE) for low in range(0, len(score), FEATURES_AT_ONCE)]
        found = [score_features(truth.part(p), score[p], likelihood.support, chosen) for p in parts]
        means.append([_mean(np.concatenate(each)) for each in zip(*found, strict=True)])
    return dict(zip(kinds, zip(*means, strict=True), strict=True))


def score_features(
    truth: Truth, score: np.ndarray, support: str, groups: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Scores of every feature, ``(G,)`` each, in the order they are named in."""
    if support == "binary":
        found = rank_scores(truth.values > 0, score, groups)
        return [found.auroc, found.auprc, found.chance]
    straight = np.log1p(score) if support == "counts" else score
    if truth.measured is None:
        return [pearson(truth.comparable, straight, groups), spearman(truth.values, score, groups)]
    columns: list[tuple[float, float]] = []
    for g, known in enumerate(truth.measured):
        inside = [cells[known[cells]] for cells in groups]
        row = slice(g, g + 1)
        linear = pearson(truth.comparable[row], straight[row], inside)
        columns.append((float(linear[0]), float(spearman(truth.values[row], score[row], inside)[0])))
    return [np.array(column) for column in zip(*columns, strict=True)]


def groups_of(labels: np.ndarray) -> list[np.ndarray]:
    """Positions of the cells of each type; cells without a type (None) are in no group."""
    known = np.array([label is not None for label in labels], dtype=bool)
    return [np.flatnonzero(known & (labels == label)) for label in sorted(set(labels[known]))]


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
