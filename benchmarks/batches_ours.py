"""MultiVAE with its defaults and each way to correct batches; and the adversary where cells are few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batches_tasks import BatchTask

WAYS = ("none", "conditional", "adversarial", "adversarial_projected", "hsic", "mmd")
N_DIRECTIONS = 50


def multivae(task: BatchTask, way: str) -> tuple[NDArray[np.floating], str]:
    """Train and embed all cells.

    ``"none"`` is never told of the batches; in ``"adversarial_projected"`` encoders read `N_DIRECTIONS`
    directions of each modality.
    """
    from multiomics_vae import MultiVAE

    batch_key = None if way == "none" else "batch"
    MultiVAE.setup_mudata(task.mdata, batch_key=batch_key)
    kind, _, projected = way.partition("_")
    model = MultiVAE(
        task.mdata,
        batch_correction="conditional" if kind == "none" else kind,
        projections=N_DIRECTIONS if projected else "auto",
        seed=task.seed,
    )
    model.train(progress=False)
    return np.asarray(model.get_latent_representation()), f"{model.history.n_epochs} epochs"
