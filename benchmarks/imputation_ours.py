"""MultiVAE with its defaults, asked for what would be measured and for values with depth taken out."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imputation_tasks import ImputationTask

if TYPE_CHECKING:
    from multiomics_vae import MultiVAE

N_SAMPLES = 100  # the default of impute


def as_measured(task: ImputationTask, fusion: str) -> NDArray[np.floating]:
    """The mean of `MultiVAE.impute`, at the depth that the given modality lets one expect."""
    model = fitted(task.data_set, fusion, task.seed, _Holder(task))
    found = model.impute(task.target, task.test, given=[task.given], n_samples=N_SAMPLES, quantiles=())
    return _scored(task, found.X)


def at_one_depth(task: ImputationTask, fusion: str) -> NDArray[np.floating]:
    """`MultiVAE.get_normalized`: depth taken out, every cell as if of one depth."""
    model = fitted(task.data_set, fusion, task.seed, _Holder(task))
    return _scored(task, model.get_normalized(task.target, task.test, given=[task.given]).to_numpy())


def corrected(task: ImputationTask, fusion: str) -> NDArray[np.floating]:
    """`MultiVAE.predict_values`: the decoder's mean and a regression of its errors."""
    model = fitted(task.data_set, fusion, task.seed, _Holder(task))
    return _scored(task, model.predict_values(task.target, task.test, given=[task.given]).to_numpy())


def _scored(task: ImputationTask, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """In the score's scale."""
    return np.log1p(values) if task.kind == "counts" else values


class _Holder:
    """Carries a task into the cache without being part of its key."""

    def __init__(self, task: ImputationTask) -> None:
        self.task = task

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return True


@lru_cache(maxsize=1)
def fitted(data_set: str, fusion: str, seed: int, holder: _Holder) -> MultiVAE:
    """One training serves every question about a data set."""
    from multiomics_vae import MultiVAE

    task = holder.task
    MultiVAE.setup_mudata(task.train, likelihoods=dict(task.likelihoods), batch_key=task.batch_key)
    model = MultiVAE(task.train, fusion=fusion, seed=seed)
    model.train(progress=False)
    return model
