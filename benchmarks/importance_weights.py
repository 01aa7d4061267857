"""Variances of log importance weights (Wu & Goodman 2018): how well q(z | x) covers the exact posterior.

With x_1 the first modality, x_2 the second, z drawn from the q that is named:

    marginal           var log [ p(x_1 | z) p(z) / q(z | x_1) ]                 z ~ q(z | x_1)
    joint              var log [ p(x_1 | z) p(x_2 | z) p(z) / q(z | x_1, x_2) ]  z ~ q(z | x_1, x_2)
    joint from first   var log [ p(x_1 | z) p(x_2 | z) p(z) / q(z | x_1) ]       z ~ q(z | x_1)
    conditional        var log [ p(x_1 | z) q(z | x_2) / q(z | x_1) ]            z ~ q(z | x_1)

The last stands for p(x_1, z | x_2) / q(z | x_1) with the exact p(z | x_2) replaced by q(z | x_2): with the exact
one it would be the third, p(x_2) being no function of z. An exact posterior has variance 0 in the first two. The
variance is over draws, within one example; the mean of that over examples is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import mudata
import numpy as np
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.registration import read

BATCH_SIZE = 64


@dataclass(frozen=True)
class WeightVariances:
    """Means over examples; None where there is no second modality."""

    marginal: float
    joint: float | None = None
    joint_from_first: float | None = None
    conditional: float | None = None


def weight_variances(model: MultiVAE, mdata: mudata.MuData, n_samples: int) -> WeightVariances:
    """Variances of the log importance weights of examples that have every modality.

    Parameters
    ----------
    model
        Fitted, of one or two modalities.
    mdata
        The examples.
    n_samples
        Draws an example.
    """
    data = read(mdata, model.schema)
    if not data.present.all() or data.schema.n_modalities > 2:
        raise ValueError("weight_variances wants examples of one or two modalities, all of them measured.")
    rows = []
    for start in range(0, data.n_cells, BATCH_SIZE):
        rows.append(_of_minibatch(model, data, np.arange(start, min(start + BATCH_SIZE, data.n_cells)), n_samples))
    means = np.concatenate(rows, axis=1).mean(axis=1)  # (1 or 4,)
    return WeightVariances(*(float(mean) for mean in means))
