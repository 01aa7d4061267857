"""What a model keeps beside its weights in order to predict: depths of targets, calibrated levels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from multiomics_vae.analysis.calibration import LEVELS, Calibration
from multiomics_vae.analysis.depth import DepthModel, LearnedFrom
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.outcomes.calibrated_outcome import OutcomeCalibration
from multiomics_vae.errors import CheckpointError
from multiomics_vae.module import MultimodalModule

DEPTH, CALIBRATION, OUTCOME = "depth/", "calibration/", "outcome/"
GIVEN = r"\d{1,4}(\+\d{1,4})*"
OUTCOME_NAME = re.compile(r"outcome/\d{1,4}")
NAME = re.compile(rf"depth/\d{{1,4}}/{GIVEN}|calibration/\d{{1,4}}/(denoise|{GIVEN})")


@dataclass(frozen=True, eq=False)
class PredictionAids:
    """Learned from cells after the weights, and void when these change.

    Parameters
    ----------
    depths
        Of each target, given what it is predicted from.
    calibration
        Level maps.
    outcomes
        Temperature and conformal scores of heads, by their position in ``module.readers``; None for those
        that nothing was held out for.
    """

    depths: Mapping[Direction, DepthModel] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    outcomes: Mapping[int, OutcomeCalibration | None] = field(default_factory=dict)

    def with_depth(self, direction: Direction, depth: DepthModel) -> PredictionAids:
        """The same with one more depth."""
        return replace(self, depths={**self.depths, direction: depth})

    def with_outcome(self, reader: int, calibration: OutcomeCalibration | None) -> PredictionAids:
        """The same with what is known of one more head."""
        return replace(self, outcomes={**self.outcomes, reader: calibration})

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint."""
        depths = {f"{DEPTH}{each.name}": depth.to_tensor() for each, depth in self.depths.items()}
        maps = self.calibration.to_tensors()
        outcomes = {
            f"{OUTCOME}{n}": each.to_tensor() for n, each in self.outcomes.items() if each is not None
        }
        return {**depths, **{f"{CALIBRATION}{name}": each for name, each in maps.items()}, **outcomes}


def aids_from_tensors(tensors: Mapping[str, Tensor], module: MultimodalModule) -> PredictionAids:
    """The inverse of `PredictionAids.to_tensors`, believing nothing.

    Raises
    ------
    CheckpointError
        For a name, size, type or order that cannot be.
    """
    depths, outcomes = {}, {}
    for name, tensor in tensors.items():
        if OUTCOME_NAME.fullmatch(name) and int(name.removeprefix(OUTCOME)) < len(module.readers):
            outcomes[int(name.removeprefix(OUTCOME))] = _outcome(name, tensor)
            continue
        positions = [int(digits) for digits in re.findall(r"\d+", name)] if NAME.fullmatch(name) else []
        if not positions or max(positions) >= module.n_modalities:
            raise CheckpointError(f"The saved weights hold {name!r}, which this model has no use for.")
        if name.startswith(DEPTH):
            depths[Direction.from_name(name.removeprefix(DEPTH))] = _depth(name, tensor, module)
            continue
        _check_form(name, tensor, len(LEVELS), torch.float64)
        if bool((tensor.diff() < 0).any()):
            raise CheckpointError(f"The saved {name!r} does not rise, as levels must. Calibrate again.")
    maps = {n.removeprefix(CALIBRATION): t for n, t in tensors.items() if n.startswith(CALIBRATION)}
    return PredictionAids(depths, Calibration.from_tensors(maps), outcomes)


def _outcome(name: str, tensor: Tensor) -> OutcomeCalibration:
    try:
        return OutcomeCalibration.from_tensor(tensor)
    except ValueError as error:
        raise CheckpointError(f"The saved {name!r} cannot be: {error}. Save the model again.") from None


def _depth(name: str, tensor: Tensor, module: MultimodalModule) -> DepthModel:
    direction = Direction.from_name(name.removeprefix(DEPTH))
    given = direction.given or ()
    if list(given) != sorted(set(given) - {direction.modality}):
        raise CheckpointError(f"The saved weights hold {name!r}, which this model has no use for.")
    _check_form(name, tensor, DepthModel.n_numbers(module, len(given)), torch.float32)
    if not bool(tensor.isfinite().all()) or tensor[0].item() not in list(LearnedFrom) or tensor[2] <= 0:
        raise CheckpointError(f"The saved {name!r} holds numbers that no depth has. Save the model again.")
    return DepthModel.from_tensor(tensor, given)


def _check_form(name: str, tensor: Tensor, length: int, dtype: torch.dtype) -> None:
    if (tuple(tensor.shape), tensor.dtype) != ((length,), dtype):
        raise CheckpointError(
            f"The saved {name!r} has shape {tuple(tensor.shape)} and dtype {tensor.dtype}, not "
            f"{(length,)} and {dtype}. Save the model again."
        )
