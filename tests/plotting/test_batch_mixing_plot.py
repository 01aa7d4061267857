"""Two embeddings beside each other."""

from __future__ import annotations

import anndata as ad
import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from multiomics_vae import plotting
from multiomics_vae.errors import InputError


@pytest.fixture
def cells():
    generator = np.random.default_rng(0)
    adata = ad.AnnData(np.zeros((200, 1), dtype=np.float32))
    adata.obs["site"] = pd.Categorical(np.where(np.arange(200) % 2, "b", "a"))
    adata.obs["cell_type"] = np.where(np.arange(200) < 100, "T", "unlabelled")
    Z = generator.standard_normal((200, 2))
    adata.obsm["X_before"] = Z + 50.0 * (np.arange(200) % 2)[:, None]
    adata.obsm["X_multivae"] = Z
    yield adata
    plt.close("all")


def test_titles_say_how_well_batches_mix(cells):
    before = cells.obsm["X_before"].copy()
    axes = plotting.batch_mixing(cells, "site", "cell_type")
    assert axes.shape == (2, 2)
    assert "before (X_before)\niLISI 0.00" in axes[0, 0].get_title()
    assert float(axes[0, 1].get_title().split()[-1]) > 0.8
    assert [text.get_text() for text in axes[1, 1].get_legend().get_texts()] == ["T", "unlabelled"]
    assert axes[1, 0].get_xlabel() == "coloured by cell_type"
    drawn = np.vstack([c.get_offsets() for c in axes[0, 0].collections if len(c.get_offsets()) > 1])
    assert len(drawn) == 200
    np.testing.assert_array_equal(cells.obsm["X_before"], before)


def test_one_row_without_a_label_and_fewer_cells(cells):
    axes = plotting.batch_mixing(cells, "site", max_cells=60)
    assert axes.shape == (1, 2)
    assert sum(len(c.get_offsets()) for c in axes[0, 0].collections) == 60


def test_wide_embeddings_are_drawn_by_umap(cells):
    cells.obsm["X_multivae"] = np.hstack([cells.obsm["X_multivae"]] * 2)
    axes = plotting.batch_mixing(cells, "site", max_cells=50)
    assert all(np.isfinite(np.asarray(c.get_offsets())).all() for c in axes[0, 1].collections)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch": "sit"}, r"no column 'sit' in obs.*'site'"),
        ({"batch": "site", "label": "type"}, "no column 'type'"),
        ({"batch": "site", "before": "X_befor"}, r"no obsm\['X_befor'\].*'X_before'"),
    ],
)
def test_what_is_not_there_is_told(cells, arguments, match):
    with pytest.raises(InputError, match=match):
        plotting.batch_mixing(cells, **arguments)


def test_rare_types_share_the_grey(cells):
    cells.obs["many"] = [f"t{min(i, 30):02d}" for i in range(200)]
    axes = plotting.batch_mixing(cells, "site", "many")
    texts = [text.get_text() for text in axes[1, 1].get_legend().get_texts()]
    assert texts[-1] == "7 rarer ones"
    assert "t30" in texts
    assert len(texts) == 25
