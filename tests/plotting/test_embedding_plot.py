"""The UMAP picture: what is drawn where, in which colour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anndata
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from multiomics_vae import plotting
from multiomics_vae.errors import InputError
from multiomics_vae.plotting.style import MISSING, PALETTE, colours, grouped

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def adata() -> anndata.AnnData:
    obs = pd.DataFrame(index=[f"c{i}" for i in range(6)])
    obs["kind"] = pd.Categorical(["b", "a", "b", None, "a", "b"], categories=["b", "unused", "a"])
    obs["score"] = [0.0, 1.0, 2.0, np.nan, 4.0, np.inf]
    obs["flag"] = [True, False, True, False, True, False]
    obs["donor"] = ["d10", "d2", "d2", "d10", "d1", "d1"]
    made = anndata.AnnData(np.zeros((6, 1)), obs=obs)
    made.obsm["X_umap"] = np.arange(12.0).reshape(6, 2)
    made.obsm["X_line"] = np.zeros((6, 1))
    return made


def drawn(ax: Axes) -> dict[tuple[float, float], str]:
    """Colour of every cell, by its place."""
    found = {}
    for collection in ax.collections:
        places = np.asarray(collection.get_offsets())
        shades = np.broadcast_to(
            collection.to_rgba(collection.get_array())
            if collection.get_array() is not None
            else collection.get_facecolors(),
            (len(places), 4),
        )
        found |= {
            (float(x), float(y)): to_hex(shade).upper() for (x, y), shade in zip(places, shades, strict=True)
        }
    return found


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def test_categories_keep_their_order_and_missing_cells_are_grey(adata: anndata.AnnData) -> None:
    ax = plotting.umap(adata, color="kind")
    assert isinstance(ax, Axes)
    assert legend(ax) == ["b", "a", "missing"]
    shades = drawn(ax)
    b, a = PALETTE[:2]
    wanted = [b, a, b, MISSING, a, b]
    assert {tuple(place): shade for place, shade in zip(adata.obsm["X_umap"], wanted, strict=True)} == shades
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("kind", "UMAP 1", "UMAP 2")


def test_text_and_truth_values_are_categories_too(adata: anndata.AnnData) -> None:
    assert legend(plotting.umap(adata, color="donor")) == ["d1", "d10", "d2"]
    assert legend(plotting.umap(adata, color="flag")) == ["False", "True"]


def test_colours_that_scanpy_chose_are_taken(adata: anndata.AnnData) -> None:
    adata.uns["donor_colors"] = ["#112233", "#445566", "#778899"]
    assert set(drawn(plotting.umap(adata, color="donor")).values()) == set(adata.uns["donor_colors"])
    adata.uns["donor_colors"] = ["#112233"]
    assert set(drawn(plotting.umap(adata, color="donor")).values()) == set(PALETTE[:3])


def test_numbers_get_a_colour_bar_and_what_is_none_is_grey(adata: anndata.AnnData) -> None:
    ax = plotting.umap(adata, color="score", title="mine")
    assert legend(ax) == []
    assert len(ax.figure.axes) == 2
    shades = drawn(ax)
    assert shades[(6.0, 7.0)] == shades[(10.0, 11.0)] == MISSING
    assert len(set(shades.values())) == 5
    assert ax.get_title() == "mine"
    adata.obs["score"] = np.nan
    assert set(drawn(plotting.umap(adata, color="score")).values()) == {MISSING}


def test_an_outlier_does_not_take_all_the_colours() -> None:
    obs = pd.DataFrame({"score": np.r_[np.linspace(0, 1, 499), 1e6]}, index=[f"c{i}" for i in range(500)])
    adata = anndata.AnnData(np.zeros((500, 1)), obs=obs)
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(500, 2))
    ax = plotting.umap(adata, color="score")
    assert ax.collections[0].get_clim()[1] < 2
    assert len(set(drawn(ax).values())) > 100


def test_without_a_colour_all_are_alike(adata: anndata.AnnData) -> None:
    ax = plotting.umap(adata, size=3.0)
    assert set(drawn(ax).values()) == {PALETTE[0]}
    assert set(ax.collections[0].get_sizes()) == {3.0}
    assert ax.get_title() == ""


def test_the_cells_are_not_changed(adata: anndata.AnnData) -> None:
    before = adata.obs.copy(), dict(adata.uns), adata.obsm["X_umap"].copy()
    for color in (None, "kind", "score"):
        plotting.umap(adata, color=color)
    pd.testing.assert_frame_equal(adata.obs, before[0])
    assert dict(adata.uns) == before[1]
    np.testing.assert_array_equal(adata.obsm["X_umap"], before[2])


def test_given_axes_are_used_and_no_figure_is_made(adata: anndata.AnnData) -> None:
    figure, given = plt.subplots()
    for color in ("kind", "score"):
        assert plotting.umap(adata, color=color, ax=given) is given
    assert plt.get_fignums() == [figure.number]


def test_it_is_shown_only_if_asked(adata: anndata.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    plotting.umap(adata)
    plotting.umap(adata, show=False)
    assert shown == []
    plotting.umap(adata, show=True)
    assert shown == [True]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"color": "kinds"}, r"no column 'kinds' in obs\. Did you mean 'kind'"),
        ({"basis": "X_umpa"}, r"no obsm\['X_umpa'\]\. Did you mean 'X_umap'.*sc\.tl\.umap\(mdata\)"),
        ({"basis": "X_line"}, r"shape \(6, 1\); a picture needs two columns"),
    ],
)
def test_errors_leave_no_figure_behind(adata: anndata.AnnData, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        plotting.umap(adata, **arguments)
    assert plt.get_fignums() == []


def test_a_long_legend_goes_into_columns() -> None:
    n = 90
    obs = pd.DataFrame({"kind": [f"type {i:02d}" for i in range(n)]}, index=[f"c{i}" for i in range(n)])
    adata = anndata.AnnData(np.zeros((n, 1)), obs=obs)
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(n, 2))
    ax = plotting.umap(adata, color="kind")
    assert len(legend(ax)) == n
    assert ax.get_legend()._ncols == 5


def test_colours_repeat_beyond_the_palette() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == 24
    assert MISSING not in PALETTE
    assert colours(26)[24:] == list(PALETTE[:2])


def test_groups_of_numbers_are_in_the_order_of_numbers() -> None:
    assert list(grouped(np.array([10, 2, 2])).categories) == ["2", "10"]
    assert list(grouped(pd.Series(["x", None, "a"])).codes) == [1, -1, 0]
