"""MultiVAE with its defaults and each way to correct batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batches_tasks import BatchTask

WAYS = ("none", "conditional", "adversarial", "hsic", "mmd")


def multivae(task: BatchTask, way: str) -> tuple[NDArray[np.floating], str]:
    """Train and embed all cells; ``"none"`` is never told of the batches."""
    from multiomics_vae import MultiVAE

    batch_key = None if way == "none" else "batch"
    MultiVAE.setup_mudata(task.mdata, batch_key=batch_key)
    model = MultiVAE(task.mdata, batch_correction="conditional" if way == "none" else way, seed=task.seed)
    model.train(progress=False)
    return np.asarray(model.get_latent_representation()), f"{model.history.n_epochs} epochs"
