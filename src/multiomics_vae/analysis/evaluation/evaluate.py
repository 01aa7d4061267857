"""All measures, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from multiomics_vae.analysis.evaluation.agreement import agreement_table
from multiomics_vae.analysis.evaluation.coverage import Imputer, imputation_coverage
from multiomics_vae.analysis.evaluation.entropy import entropies
from multiomics_vae.analysis.evaluation.feature_scores import feature_scores
from multiomics_vae.analysis.evaluation.held_out import held_out
from multiomics_vae.analysis.evaluation.importance import importance_cells, importance_tables
from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.analysis.evaluation.report import EvaluationReport
from multiomics_vae.analysis.evaluation.units import active_units, unit_activity
from multiomics_vae.analysis.evaluation.verdicts import collapse_verdicts, coverage_verdicts, entropy_verdict

REFERENCES = ("nuts",)


@dataclass(frozen=True)
class EvaluationOptions:
    """How much an evaluation draws.

    Parameters
    ----------
    n_importance_samples
        Draws of z for each cell and proposal of the importance weights.
    n_importance_cells
        Cells that these are drawn for.
    n_features_scored
        Most features of a modality that imputation is scored on.
    reference
        ``"nuts"`` compares q with the exact posterior; None leaves that out.
    n_reference_cells
        Cells that are compared.
    """

    n_importance_samples: int = 1000
    n_importance_cells: int = 100
    n_features_scored: int = 5000
    reference: str | None = None
    n_reference_cells: int = 5


def evaluate(
    question: Question, imputer: Imputer, options: EvaluationOptions, labels: np.ndarray | None
) -> EvaluationReport:
    """Take all measures.

    Parameters
    ----------
    question
        The model and the cells.
    imputer
        What imputed intervals need beside the model.
    options
        How much is drawn.
    labels
        Type of each cell, ``(N,)``; None leaves the scores within types out.
    """
    likelihoods = held_out(question)
    few = importance_cells(question, options.n_importance_cells)
    importance = importance_tables(few, options.n_importance_samples)
    activity = unit_activity(question)
    entropy = entropies(question)
    coverage = imputation_coverage(question, imputer)
    verdicts = [
        *collapse_verdicts(
            active_units(activity), question.module.n_latent, likelihoods.kl, likelihoods.gain
        ),
        entropy_verdict(entropy.overconfident),
        *coverage_verdicts(coverage),
    ]
    return EvaluationReport(
        n_cells=len(question.cells),
        n_importance_cells=len(few.cells),
        elbo=likelihoods.elbo,
        log_likelihood=likelihoods.table,
        bounds=importance.bounds,
        weight_variances=importance.variances,
        unit_activity=activity,
        entropy=entropy.table,
        agreement=agreement_table(question),
        coverage=coverage,
        feature_scores=feature_scores(question, options.n_features_scored, labels),
        verdicts=tuple(verdicts),
        reference=_reference(few, options),
    )


def _reference(few: Question, options: EvaluationOptions) -> pd.DataFrame:
    """Q beside NUTS, a row a cell; empty where it was not asked for."""
    if options.reference is None:
        return pd.DataFrame()
    # Pyro loads slowly, and only this needs it.
    from multiomics_vae.analysis.posterior_reference import posterior_reference

    cells = few.cells[: options.n_reference_cells]
    found = posterior_reference(few.module, few.data, cells, seed=few.seed, max_cells=len(cells))
    return found.to_frame()
