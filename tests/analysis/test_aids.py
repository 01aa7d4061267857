"""What is kept beside the weights comes back as it was, or is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.aids import PredictionAids, aids_from_tensors
from multiomics_vae.analysis.calibration import Calibration, Direction, LevelMap
from multiomics_vae.analysis.depth import fit_depth
from multiomics_vae.errors import CheckpointError

DATA = mixed_data(30)
MODULE = module_for(DATA)


def aids() -> PredictionAids:
    maps = {
        Direction(0, None): LevelMap(np.linspace(-3.0, 3.0, 199)),
        Direction(2, (0, 1)): LevelMap(np.linspace(-2.0, 4.0, 199)),
    }
    return PredictionAids({1: fit_depth(MODULE, DATA, np.arange(30), 30, 1)}, Calibration(maps))


def test_they_come_back_as_they_were() -> None:
    tensors = aids().to_tensors()
    assert set(tensors) == {"depth/1", "calibration/0/denoise", "calibration/2/0+1"}
    again = aids_from_tensors(tensors, MODULE)
    assert {name: t.tolist() for name, t in again.to_tensors().items()} == {
        name: t.tolist() for name, t in tensors.items()
    }
    assert aids_from_tensors({}, MODULE).to_tensors() == {}


@pytest.mark.parametrize(
    ("name", "tensor", "match"),
    [
        ("depth/3", torch.zeros(7), "'depth/3', which this model has no use for"),
        ("depth/x", torch.zeros(7), "no use for"),
        ("calibration/0/", torch.zeros(199), "no use for"),
        ("calibration/0/1+9", torch.zeros(199), "no use for"),
        ("other/0", torch.zeros(3), "no use for"),
        ("depth/0", torch.zeros(6), r"'depth/0' has shape \(6,\).*not \(7,\)"),
        ("calibration/0/1", torch.zeros(198).double(), r"has shape \(198,\).*not \(199,\)"),
        ("calibration/0/1", torch.zeros(199), "float32, not .*float64"),
        ("calibration/0/1", -torch.arange(199).double(), "does not rise"),
    ],
)
def test_what_cannot_be_is_refused(name: str, tensor: torch.Tensor, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        aids_from_tensors({name: tensor}, MODULE)
