"""UMAP of an embedding, coloured by any column of obs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.plotting.style import MISSING, colours, finish, grouped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from mudata import MuData


def umap(
    data: MuData | AnnData,
    color: str | None = None,
    *,
    basis: str = "X_umap",
    title: str | None = None,
    size: float | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Scatter of two dimensions of ``data.obsm``.

    Parameters
    ----------
    data
        With ``obsm[basis]``, for instance after ``sc.pp.neighbors(mdata, use_rep="X_multivae")`` and
        ``sc.tl.umap(mdata)``.
    color
        Column of obs: categories get a legend (in scanpy's colours where it has chosen some), numbers a
        colour bar; cells without a value are grey. None draws all cells alike.
    basis
        Key of ``obsm``; its first two columns are drawn.
    title, size
        Title, and area of a point in square points; None chooses.
    ax, show
        Axes to draw into (a new figure if None); whether to show the figure.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If the basis or the column is not there.

    Examples
    --------
    >>> mv.plotting.umap(mdata, color="cell_type")  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    if basis not in data.obsm:
        raise InputError(
            f"There is no obsm[{basis!r}]. {did_you_mean(basis, data.obsm.keys())} To make it: "
            "sc.pp.neighbors(mdata, use_rep='X_multivae'); sc.tl.umap(mdata)"
        )
    if color is not None and color not in data.obs:
        raise InputError(f"There is no column {color!r} in obs. {did_you_mean(color, data.obs.columns)}")
    points = np.asarray(data.obsm[basis])
    if points.ndim != 2 or points.shape[1] < 2:
        raise InputError(f"obsm[{basis!r}] has shape {points.shape}; a picture needs two columns.")
    if ax is None:
        ax = plt.figure(figsize=(6.4, 4.8), layout="constrained").add_subplot()
    # Drawn in a fixed random order: otherwise the last category hides the others.
    order = np.random.default_rng(0).permutation(len(points))
    spots = _Spots(ax, points[order, :2], 60_000 / max(len(points), 3_000) if size is None else size)
    if color is None:
        spots.draw(np.full(len(points), True), colours(1)[0])
    elif pd.api.types.is_numeric_dtype(data.obs[color]) and not pd.api.types.is_bool_dtype(data.obs[color]):
        _draw_numbers(spots, data.obs[color].to_numpy(dtype=float, na_value=np.nan)[order], color)
    else:
        _draw_categories(spots, grouped(data.obs[color])[order], _scanpy_palette(data, color))
    name = basis.removeprefix("X_").replace("umap", "UMAP")
    ax.set(
        xlabel=f"{name} 1",
        ylabel=f"{name} 2",
        xticks=[],
        yticks=[],
        title=color or "" if title is None else title,
    )
    finish([ax], show)
    return ax


@dataclass(frozen=True)
class _Spots:
    """Where the cells are drawn, and how large."""

    ax: Axes
    points: np.ndarray
    size: float

    def draw(self, chosen: np.ndarray, colour: Any, colour_map: str | None = None) -> PathCollection:
        x, y = self.points[chosen].T
        return self.ax.scatter(x, y, self.size, colour, cmap=colour_map, linewidths=0, rasterized=True)


def _draw_numbers(spots: _Spots, values: np.ndarray, label: str) -> None:
    missing = ~np.isfinite(values)
    if missing.any():
        spots.draw(missing, MISSING)
    shown = values[~missing]
    if not len(shown):
        return
    drawn = spots.draw(~missing, shown, "viridis")
    # Without this a few outliers would leave one colour for all the others.
    low, high = np.percentile(shown, (1, 99))
    clipped = low < high and (shown.min() < low or shown.max() > high)
    if clipped:
        drawn.set_clim(low, high)
    spots.ax.figure.colorbar(drawn, ax=spots.ax, label=label, extend="both" if clipped else "neither")


def _draw_categories(spots: _Spots, groups: pd.Categorical[str], palette: list[str] | None) -> None:
    names = [str(name) for name in groups.categories]
    if palette is None or len(palette) < len(names):
        palette = colours(len(names))
    missing = groups.codes < 0
    if missing.any():
        spots.draw(missing, MISSING)
    spots.draw(~missing, np.asarray(palette)[groups.codes[~missing]])
    legend = [*zip(names, palette, strict=False), *([("missing", MISSING)] if missing.any() else [])]
    for name, colour in legend:
        spots.ax.scatter([], [], c=colour, s=30, label=name)
    n_columns = 1 + (len(legend) - 1) // 20
    spots.ax.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=n_columns, fontsize="small"
    )


def _scanpy_palette(data: MuData | AnnData, color: str) -> list[str] | None:
    """Colours that scanpy keeps for a column, so that pictures agree."""
    kept = data.uns.get(f"{color}_colors")
    return None if kept is None else [str(colour) for colour in kept]
