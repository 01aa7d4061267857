"""Batch mixing before and after: two embeddings beside each other, by batch and by type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.mixing import ilisi
from multiomics_vae.plotting.style import MISSING, PALETTE, colours, finish, grouped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

NOT_KNOWN = ("unlabelled", "unknown", "Misc/unknown", "nan")


def batch_mixing(
    data: MuData | AnnData,
    batch: str,
    label: str | None = None,
    *,
    before: str = "X_before",
    after: str = "X_multivae",
    max_cells: int = 5_000,
    seed: int = 0,
    show: bool | None = None,
) -> np.ndarray:
    """Draw two embeddings beside each other, above by batch and below by cell type.

    The titles give iLISI (`mixing.ilisi`: 0, no neighbourhood holds two batches; 1, all are mixed), from the
    embeddings themselves and not from their two-dimensional pictures. A picture can show mixing where types
    were pushed together, which the second row would show. The most frequent categories have a colour each.

    Parameters
    ----------
    data
        With both embeddings in ``obsm`` and the columns in ``obs``.
    batch, label
        Columns of obs; without a label there is one row of pictures.
    before, after
        Keys of ``obsm``: the embedding without and with correction. One with two columns is drawn as it is,
        others by UMAP.
    max_cells
        Drawn at most, chosen at random; iLISI is of these cells too.
    seed
        Of the choice of cells and of UMAP.
    show
        Whether to show the figure.

    Returns
    -------
    ndarray
        Of Axes, ``(rows, 2)``.

    Raises
    ------
    InputError
        If a key or column is not there.

    Examples
    --------
    >>> mdata.obsm["X_before"] = uncorrected.get_latent_representation()              # doctest: +SKIP
    >>> mv.plotting.batch_mixing(mdata, "batch", "cell_type")                          # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    for key in (before, after):
        if key not in data.obsm:
            raise InputError(
                f"There is no obsm[{key!r}]. {did_you_mean(key, data.obsm.keys())} Put an embedding there: "
                f"mdata.obsm[{key!r}] = model.get_latent_representation()"
            )
    columns = [batch] if label is None else [batch, label]
    for column in columns:
        if column not in data.obs:
            raise InputError(
                f"There is no column {column!r} in obs. {did_you_mean(column, data.obs.columns)}"
            )
    cells = np.random.default_rng(seed).permutation(data.n_obs)[:max_cells]
    _, axes = plt.subplots(
        len(columns), 2, figsize=(11.5, 4.4 * len(columns)), layout="constrained", squeeze=False
    )
    for side, (name, key) in enumerate((("before", before), ("after", after))):
        values = np.asarray(data.obsm[key])[cells]
        batches = data.obs[batch].iloc[cells]
        points = values if values.shape[1] == 2 else _two_dimensions(values, seed)
        axes[0, side].set_title(
            f"{name} ({key})\niLISI {ilisi(values, batches.to_numpy()):.2f}", fontsize="medium"
        )
        for row, column in enumerate(columns):
            _draw(axes[row, side], points, grouped(data.obs[column].iloc[cells]), legend=side == 1)
            axes[row, side].set(xticks=[], yticks=[])
        axes[0, side].set_xlabel(f"coloured by {batch}")
        if label is not None:
            axes[1, side].set_xlabel(f"coloured by {label}")
    finish(list(axes.ravel()), show)
    return axes


def _two_dimensions(values: np.ndarray, seed: int) -> np.ndarray:
    import warnings

    with warnings.catch_warnings():
        # umap-learn says that a seed costs it its threads; that is what is wanted.
        warnings.filterwarnings("ignore", module="umap")
        from umap import UMAP

        neighbours = min(15, len(values) - 1)
        points: np.ndarray = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(values)
    return points


def _draw(ax: Axes, points: np.ndarray, groups: pd.Categorical[str], legend: bool) -> None:
    size = 40_000 / max(len(points), 2_000)
    names = [str(name) for name in groups.categories]
    counts = np.bincount(groups.codes[groups.codes >= 0], minlength=len(names))
    known = [i for i in np.argsort(-counts, kind="stable") if names[i] not in NOT_KNOWN]
    coloured, rare = sorted(known[: len(PALETTE)]), known[len(PALETTE) :]
    shades = np.full(len(names) + 1, MISSING, dtype=object)
    shades[coloured] = colours(len(coloured))
    of_cell = shades[groups.codes]  # a missing value has the code -1, the last shade
    grey = of_cell == MISSING
    for chosen in (grey, ~grey):
        x, y = points[chosen].T
        ax.scatter(x, y, size, list(of_cell[chosen]), linewidths=0, rasterized=True)
    if not legend:
        return
    for i in coloured:
        ax.scatter([], [], color=shades[i], s=30, label=names[i])
    if rare:
        ax.scatter([], [], color=MISSING, s=30, label=f"{len(rare)} rarer ones")
    for name in (name for name in names if name in NOT_KNOWN):
        ax.scatter([], [], color=MISSING, s=30, label=name)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="x-small")
