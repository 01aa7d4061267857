"""What is kept beside the weights comes back as it was, or is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.aids import PredictionAids, aids_from_tensors
from multiomics_vae.analysis.calibration import Calibration, LevelMap
from multiomics_vae.analysis.depth import DepthModel, LearnedFrom, fit_depth
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.errors import CheckpointError

DATA = mixed_data(30)
MODULE = module_for(DATA)


def aids() -> PredictionAids:
    maps = {
        Direction(0, None): LevelMap(np.linspace(-3.0, 3.0, 199)),
        Direction(2, (0, 1)): LevelMap(np.linspace(-2.0, 4.0, 199)),
    }
    depths = {
        direction: fit_depth(MODULE, DATA, np.arange(30), 30, direction)
        for direction in (Direction(1, (0,)), Direction(0, (1, 2)))
    }
    return PredictionAids(depths, Calibration(maps))


def test_they_come_back_as_they_were() -> None:
    tensors = aids().to_tensors()
    assert set(tensors) == {"depth/1/0", "depth/0/1+2", "calibration/0/denoise", "calibration/2/0+1"}
    again = aids_from_tensors(tensors, MODULE)
    assert {name: t.tolist() for name, t in again.to_tensors().items()} == {
        name: t.tolist() for name, t in tensors.items()
    }
    assert again.depths.keys() == aids().depths.keys()
    assert again.depths[Direction(0, (1, 2))].given == (1, 2)
    assert aids_from_tensors({}, MODULE).to_tensors() == {}


def test_a_depth_is_its_tensor() -> None:
    numbers = torch.randn(8, generator=torch.Generator().manual_seed(0))
    for learned_from in LearnedFrom:
        depth = DepthModel((0, 2), 3.25, numbers, numbers + 1.0, 0.5, learned_from)
        again = DepthModel.from_tensor(depth.to_tensor(), (0, 2))
        assert (again.given, again.intercept, again.sd, again.learned_from) == (
            (0, 2),
            3.25,
            0.5,
            learned_from,
        )
        assert torch.equal(again.slope, numbers)
        assert torch.equal(again.centre, numbers + 1.0)


@pytest.mark.parametrize(
    ("name", "tensor", "match"),
    [
        ("depth/0/3", torch.zeros(15), "'depth/0/3', which this model has no use for"),
        ("depth/x/1", torch.zeros(15), "no use for"),
        ("depth/1", torch.zeros(15), "no use for"),
        ("depth/1/denoise", torch.zeros(15), "no use for"),
        ("depth/1/1", torch.zeros(15), "no use for"),
        ("depth/1/2+0", torch.zeros(17), "no use for"),
        ("depth/1/0+0", torch.zeros(17), "no use for"),
        ("calibration/0/", torch.zeros(199), "no use for"),
        ("calibration/0/1+9", torch.zeros(199), "no use for"),
        ("other/0", torch.zeros(3), "no use for"),
        ("depth/0/1", torch.zeros(13), r"'depth/0/1' has shape \(13,\).*not \(15,\)"),
        ("depth/0/1+2", torch.zeros(15), r"not \(17,\)"),
        ("depth/0/1", torch.zeros(15).double(), "float64, not .*float32"),
        ("depth/0/1", torch.zeros(15), "numbers that no depth has"),  # σ = 0
        ("depth/0/1", torch.full((15,), 3.0), "numbers that no depth has"),
        ("depth/0/1", torch.full((15,), torch.nan), "numbers that no depth has"),
        ("calibration/0/1", torch.zeros(198).double(), r"has shape \(198,\).*not \(199,\)"),
        ("calibration/0/1", torch.zeros(199), "float32, not .*float64"),
        ("calibration/0/1", -torch.arange(199).double(), "does not rise"),
    ],
)
def test_what_cannot_be_is_refused(name: str, tensor: torch.Tensor, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        aids_from_tensors({name: tensor}, MODULE)
