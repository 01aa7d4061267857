"""Pictures, in scanpy's manners: ``ax`` to draw into, ``show``, and the Axes are returned."""

from multiomics_vae.plotting.batch_mixing import batch_mixing
from multiomics_vae.plotting.embedding import umap
from multiomics_vae.plotting.evaluation import evaluation
from multiomics_vae.plotting.expert_weights import expert_weights
from multiomics_vae.plotting.outcomes import cross_validation
from multiomics_vae.plotting.outcomes_attention import attention
from multiomics_vae.plotting.outcomes_curves import precision_recall, reliability, roc
from multiomics_vae.plotting.outcomes_survival import kaplan_meier
from multiomics_vae.plotting.training_curves import training_curves

__all__ = [
    "attention",
    "batch_mixing",
    "cross_validation",
    "evaluation",
    "expert_weights",
    "kaplan_meier",
    "precision_recall",
    "reliability",
    "roc",
    "training_curves",
    "umap",
]
