"""The loss: an evidence lower bound over subsets of the modalities and penalties, as a sum of named terms."""

from multiomics_vae.objective.config import (
    EXACT,
    Economy,
    ObjectiveConfig,
    PenaltyWeight,
    SubsetObjective,
    penalty_weights,
)
from multiomics_vae.objective.labelled import HEAD_TERM, Supervision, settle_heads, start_heads, supervise
from multiomics_vae.objective.loss import Objective
from multiomics_vae.objective.penalised import build_penalties

__all__ = [
    "EXACT",
    "HEAD_TERM",
    "Economy",
    "Objective",
    "ObjectiveConfig",
    "PenaltyWeight",
    "SubsetObjective",
    "Supervision",
    "build_penalties",
    "penalty_weights",
    "settle_heads",
    "start_heads",
    "supervise",
]
