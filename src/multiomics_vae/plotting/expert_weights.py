"""Which modality the posterior listened to, by group of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.errors import InputError
from multiomics_vae.plotting.style import MISSING, colours, finish, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def expert_weights(
    weights: pd.DataFrame, groups: pd.Series | np.ndarray, *, ax: Axes | None = None, show: bool | None = None
) -> Axes:
    """Stacked bars: the average weight of each expert in every group of cells.

    Parameters
    ----------
    weights
        ``model.get_expert_weights()``: gate weights, or shares of the precision.
    groups
        Group of each cell, for instance ``mdata.obs["cell_type"]``: as many as rows of ``weights``.
    ax, show
        Axes to draw into (a new figure if None); whether to show the figure.

    Raises
    ------
    InputError
        If there are not as many groups as cells.

    Examples
    --------
    >>> mv.plotting.expert_weights(model.get_expert_weights(), mdata.obs["cell_type"])  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    if len(groups) != len(weights):
        raise InputError(
            f"{len(groups)} groups for {len(weights)} cells: give one group a cell, mdata.obs['cell_type']"
        )
    average = weights.groupby(pd.Series(grouped(groups), weights.index), observed=True).mean()
    names = average.index.astype(str)
    if ax is None:
        ax = plt.figure(figsize=(6.0, 0.9 + 0.24 * len(average)), layout="constrained").add_subplot()
    start = np.zeros(len(average))
    palette = iter(colours(average.shape[1]))
    for name, column in average.items():
        colour = MISSING if name == "prior" else next(palette)
        ax.barh(names, column, left=start, color=colour, label=str(name))
        start = start + column.to_numpy()
    ax.set(xlabel="average weight", xlim=(0, 1), ylim=(len(average) - 0.4, -0.6))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    finish([ax], show)
    return ax
