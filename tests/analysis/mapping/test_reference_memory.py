"""What a model remembers of its cells, through a checkpoint and back, and what is refused there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.mapping.memory import ReferenceMemory, memory_from_tensors, name_keys
from multiomics_vae.errors import CheckpointError
from small_models import make_cells, make_model, register, train


@pytest.fixture(scope="module")
def model() -> MultiVAE:
    return train(make_model(register(make_cells(n_cells=60))), 1, validation_size=0.4)


@pytest.fixture(scope="module")
def memory(model: MultiVAE) -> ReferenceMemory:
    found = model._own_memory()
    assert found is not None
    return found


def test_it_comes_back(model: MultiVAE, memory: ReferenceMemory) -> None:
    again = memory_from_tensors(memory.to_tensors(), model.module)
    assert again is not None
    assert set(again.held_out) == {(0,), (1,), (0, 1)}
    for name, tensor in memory.to_tensors().items():
        assert torch.equal(again.to_tensors()[name], tensor), name
    assert set(memory.keys) == set(name_keys(model._data.cell_names[model.validation_indices]))


def test_averages_are_those_of_the_training_cells(model: MultiVAE, memory: ReferenceMemory) -> None:
    rna = model._data.modalities[0]
    counts = rna.values.toarray() if not isinstance(rna.values, np.ndarray) else rna.values  # type: ignore[union-attr]
    rows = rna.row_of_cell[model.train_indices]
    depth = rna.depth[rows][:, None]
    norms = memory.norms[0]
    assert norms is not None
    np.testing.assert_allclose(norms.share, counts[rows].sum(0) / counts[rows].sum(), rtol=1e-5)
    np.testing.assert_allclose(norms.usual, np.log1p(1e4 * counts[rows] / depth).mean(0), rtol=1e-4)


@pytest.mark.parametrize("fault", ["missing", "unknown", "modality", "shape", "dtype"])
def test_what_cannot_be_is_refused(model: MultiVAE, memory: ReferenceMemory, fault: str) -> None:
    tensors = memory.to_tensors()
    if fault == "missing":
        del tensors["latent"]
    elif fault == "unknown":
        tensors["evil"] = torch.zeros(1)
    elif fault == "modality":
        tensors["norms/7"] = tensors["norms/0"]
    elif fault == "shape":
        tensors["norms/0"] = tensors["norms/0"][:, 1:]
    else:
        tensors["keys"] = tensors["keys"].float()
    with pytest.raises(CheckpointError):
        memory_from_tensors(tensors, model.module)
