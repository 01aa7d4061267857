"""Defaults that follow from the data."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pytest

from multiomics_vae import MultiVAE


def real_valued(n_cells: int, widths: dict[str, int]) -> mudata.MuData:
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(n_cells)]
    parts = {}
    for name, width in widths.items():
        parts[name] = anndata.AnnData(rng.normal(size=(n_cells, width)).astype(np.float32))
        parts[name].obs_names = names
        parts[name].var_names = [f"{name}:{j}" for j in range(width)]
    return mudata.MuData(parts)


def test_of_few_inputs_none_is_hidden() -> None:
    mdata = real_valued(40, {"table": 31, "wide": 32})
    MultiVAE.setup_mudata(mdata, likelihoods={"table": "gaussian", "wide": "gaussian"})
    parts = MultiVAE(mdata, input_dropout=0.3).module.parts
    assert [part.encoder.input_dropout.p for part in parts] == [0.0, 0.3]


@pytest.mark.parametrize(("n_cells", "precision"), [(15, 100.0), (17, 1.0)])
def test_weights_of_a_linear_decoder_shrink_by_how_few_cells_show_a_feature(
    n_cells: int, precision: float
) -> None:
    mdata = real_valued(n_cells, {"table": 4})
    MultiVAE.setup_mudata(mdata, likelihoods={"table": "gaussian"})
    model = MultiVAE(mdata, decoders="linear", n_hidden=16)
    assert model.config.modalities[0].weight_precision == precision


def test_a_decoder_is_linear_where_few_cells_show_a_feature() -> None:
    decoders = []
    for n_cells in (15, 17):
        mdata = real_valued(n_cells, {"table": 4})
        MultiVAE.setup_mudata(mdata, likelihoods={"table": "gaussian"})
        decoders.append(MultiVAE(mdata, n_hidden=16).config.modalities[0].decoder)
    assert decoders == ["linear", "mlp"]
