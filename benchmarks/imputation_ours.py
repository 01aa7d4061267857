"""MultiVAE with its defaults, asked for what would be measured and for values with depth taken out."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imputation_tasks import ImputationTask

if TYPE_CHECKING:
    from multiomics_vae import MultiVAE


def as_measured(task: ImputationTask, fusion: str) -> NDArray[np.floating]:
    """Expected measurement at the depth that the given modality lets one expect, in the score's scale."""
    return _imputed(task, fusion, "predicted")


def at_one_depth(task: ImputationTask, fusion: str) -> NDArray[np.floating]:
    """The same with depth taken out: every cell as if of one depth."""
    return _imputed(task, fusion, 1.0)


def corrected(task: ImputationTask, fusion: str) -> NDArray[np.floating]:
    """`MultiVAE.predict_values`: the expected measurement and a regression of its errors."""
    model = fitted(task.data_set, fusion, task.seed, _Holder(task))
    values = model.predict_values(task.target, task.test, given=[task.given]).to_numpy()
    return np.log1p(values) if task.kind == "counts" else values


def _imputed(task: ImputationTask, fusion: str, library_size: float | str) -> NDArray[np.floating]:
    model = fitted(task.data_set, fusion, task.seed, _Holder(task))
    values = model.get_normalized(
        task.target,
        task.test,
        given=[task.given],
        library_size=library_size,  # type: ignore[arg-type]
    ).to_numpy()
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
