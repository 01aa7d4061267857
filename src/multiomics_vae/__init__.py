"""A variational autoencoder for single cells measured in several ways at once.

>>> from multiomics_vae import MultiVAE
>>> model = MultiVAE(mdata)          # doctest: +SKIP
>>> model.train()                    # doctest: +SKIP

Public names are imported when they are first used, so that ``import multiomics_vae`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from multiomics_vae import datasets, plotting
    from multiomics_vae.cross_validation import ModelSettings, TrainingSettings, cross_validate
    from multiomics_vae.data.clinical import with_clinical
    from multiomics_vae.heads.head import Head
    from multiomics_vae.model import MultiVAE
    from multiomics_vae.penalties.correction import BatchCorrection

_HOME_OF = {
    "BatchCorrection": "multiomics_vae.penalties.correction",
    "Head": "multiomics_vae.heads.head",
    "ModelSettings": "multiomics_vae.cross_validation",
    "MultiVAE": "multiomics_vae.model",
    "TrainingSettings": "multiomics_vae.cross_validation",
    "cross_validate": "multiomics_vae.cross_validation",
    "with_clinical": "multiomics_vae.data.clinical",
}
_SUBMODULES = ("datasets", "errors", "plotting")

__all__ = [
    "BatchCorrection",
    "Head",
    "ModelSettings",
    "MultiVAE",
    "TrainingSettings",
    "__version__",
    "cross_validate",
    "datasets",
    "errors",
    "plotting",
    "with_clinical",
]


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"multiomics_vae.{name}")
    raise AttributeError(f"module 'multiomics_vae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
