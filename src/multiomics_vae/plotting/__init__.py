"""Pictures, in scanpy's manners: ``ax`` to draw into, ``show``, and the Axes are returned."""

from multiomics_vae.plotting.batch_mixing import batch_mixing
from multiomics_vae.plotting.embedding import umap
from multiomics_vae.plotting.evaluation import evaluation
from multiomics_vae.plotting.expert_weights import expert_weights
from multiomics_vae.plotting.training_curves import training_curves

__all__ = ["batch_mixing", "evaluation", "expert_weights", "training_curves", "umap"]
