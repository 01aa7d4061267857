"""Colours and finishing touches that all pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

# Chosen to lie far apart in the CIELAB space, from each other, from white and from `MISSING`.
PALETTE = (
    "#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#775533", "#9977F0",
    "#11DDBB", "#BB5511", "#F099DD", "#117777", "#553377", "#99BB77", "#DD9977", "#BBBBF0",
    "#1177DD", "#777711", "#991133", "#335533", "#F09933", "#9977BB", "#BB55BB", "#119977",
)  # fmt: skip

MISSING = "#D9D9D9"


def colours(n: int) -> list[str]:
    """N colours, told apart as well as may be; they repeat beyond the palette."""
    return [PALETTE[i % len(PALETTE)] for i in range(n)]


def grouped(values: pd.Series | np.ndarray) -> pd.Categorical[str]:
    """Groups as text, in the order of pandas' categories if there are some, else sorted; NaN stays NaN."""
    import pandas as pd

    column = pd.Series(values)
    if isinstance(column.dtype, pd.CategoricalDtype):
        found = column.cat.remove_unused_categories().cat.categories
    else:
        found = pd.Categorical(column).categories
    as_text = column.astype(object).map(str, na_action="ignore")
    return pd.Categorical(as_text, categories=list(dict.fromkeys(map(str, found))))


def finish(axes: Sequence[Axes], show: bool | None) -> None:
    """Remove what carries no data, and show the figure if asked to."""
    import matplotlib.pyplot as plt

    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    if show:
        plt.show()
