"""What a model keeps beside its weights in order to predict: depths of modalities, calibrated levels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from multiomics_vae.analysis.calibration import LEVELS, Calibration
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.errors import CheckpointError
from multiomics_vae.module import MultimodalModule

DEPTH, CALIBRATION = "depth/", "calibration/"
NAME = re.compile(r"depth/\d{1,4}|calibration/\d{1,4}/(denoise|\d{1,4}(\+\d{1,4})*)")


@dataclass(frozen=True, eq=False)
class PredictionAids:
    """Learned from cells after the weights, and void when these change.

    Parameters
    ----------
    depths
        Position of a modality -> its depth given z.
    calibration
        Level maps.
    """

    depths: Mapping[int, DepthModel] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)

    def with_depth(self, modality: int, depth: DepthModel) -> PredictionAids:
        """The same with one more depth."""
        return replace(self, depths={**self.depths, modality: depth})

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint."""
        depths = {f"{DEPTH}{m}": depth.to_tensor() for m, depth in sorted(self.depths.items())}
        maps = self.calibration.to_tensors()
        return {**depths, **{f"{CALIBRATION}{name}": each for name, each in maps.items()}}


def aids_from_tensors(tensors: Mapping[str, Tensor], module: MultimodalModule) -> PredictionAids:
    """The inverse of `PredictionAids.to_tensors`, believing nothing.

    Raises
    ------
    CheckpointError
        For a name, size, type or order that cannot be.
    """
    width = 2 + module.n_latent + module.covariates.n_outputs
    for name, tensor in tensors.items():
        is_depth = name.startswith(DEPTH)
        wanted = ((width,), torch.float32) if is_depth else ((len(LEVELS),), torch.float64)
        positions = [int(digits) for digits in re.findall(r"\d+", name)] if NAME.fullmatch(name) else []
        if not positions or max(positions) >= module.n_modalities:
            raise CheckpointError(f"The saved weights hold {name!r}, which this model has no use for.")
        if (tuple(tensor.shape), tensor.dtype) != wanted:
            raise CheckpointError(
                f"The saved {name!r} has shape {tuple(tensor.shape)} and dtype {tensor.dtype}, not "
                f"{wanted[0]} and {wanted[1]}. Save the model again."
            )
        if not is_depth and bool((tensor.diff() < 0).any()):
            raise CheckpointError(f"The saved {name!r} does not rise, as levels must. Calibrate again.")
    return PredictionAids(
        {int(n.removeprefix(DEPTH)): DepthModel.from_tensor(t) for n, t in tensors.items() if n[:6] == DEPTH},
        Calibration.from_tensors(
            {n.removeprefix(CALIBRATION): t for n, t in tensors.items() if n.startswith(CALIBRATION)}
        ),
    )
