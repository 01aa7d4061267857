"""Which cells a prediction of a donor was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.errors import InputError
from multiomics_vae.plotting.outcomes_curves import GREY, axes_for
from multiomics_vae.plotting.style import colours, finish, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def attention(
    weights: pd.Series,
    cell_types: pd.Series,
    donors: pd.Series,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """What a cell counts in its donor, by cell type: 1 is as much as the donor's average cell.

    A bar is the mean over donors of the mean over a type's cells; points are donors. Attention says what
    was looked at. It does not say that a type causes an outcome, nor that the prediction is good.

    Parameters
    ----------
    weights
        ``model.predict(outcome).attention``, by cell.
    cell_types, donors
        Columns of obs; matched by cell name.
    ax, show
        To draw into; whether to show the figure.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If there is no attention, or cells have no type or donor.

    Examples
    --------
    >>> found = model.predict("response")                                                 # doctest: +SKIP
    >>> mv.plotting.attention(found.attention, mdata.obs["cell_type"], mdata.obs["donor"])  # doctest: +SKIP
    """
    if len(weights) == 0:
        raise InputError(
            "There is no attention to draw: the outcome is predicted of cells. Predict it of donors: "
            'heads={outcome: Head(level="donor", pooling="attention")}'
        )
    absent = weights.index.difference(cell_types.index).union(weights.index.difference(donors.index))
    if len(absent):
        raise InputError(
            f"{len(absent)} cells with attention, such as {absent[0]!r}, have no type or no donor. Give "
            'columns of the same MuData: mdata.obs["cell_type"], mdata.obs["donor"]'
        )
    types = grouped(cell_types.loc[weights.index])
    whose = donors.loc[weights.index].astype(str).to_numpy()
    table = pd.DataFrame({"weight": weights.to_numpy(), "type": types, "donor": whose})
    table["relative"] = table["weight"] * table.groupby("donor")["weight"].transform("size")
    means = table.groupby(["type", "donor"], observed=True)["relative"].mean().reset_index()
    order = means.groupby("type", observed=True)["relative"].mean().sort_values()
    ax = axes_for(ax)
    place = np.arange(len(order))
    ax.barh(place, order.to_numpy(), color=colours(1)[0], alpha=0.55)
    at = pd.Series(place, index=order.index.astype(str))
    ax.plot(means["relative"], at[means["type"].astype(str)], "o", color="black", markersize=2.5, alpha=0.6)
    ax.axvline(1.0, color=GREY, linestyle=":", linewidth=1)
    ax.set_yticks(place, list(order.index.astype(str)), fontsize="small" if len(order) > 10 else None)
    ax.set(title="Attention by cell type", xlabel="weight over that of the average cell")
    finish([ax], show)
    return ax
