"""What drove a prediction, feature by feature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multiomics_vae.analysis.outcomes.path_gradients import encoder_inputs, path_gradients
from multiomics_vae.analysis.outcomes.scores import cells_of_donors
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.data.minibatch import Minibatch, ModalityBatch
from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.kernels import SparseRows
from multiomics_vae.module import ModalityParts, MultimodalModule
from multiomics_vae.networks.transforms.one_hot import OneHot

REFERENCE_CELLS = 500
CELLS_AT_ONCE = 128
ROWS_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """By how much each feature moved predictions away from that of the typical training cell.

    Parameters
    ----------
    outcome, target
        What was predicted, and for categories which of them.
    unit
        What the numbers are in: ``"log odds"``, the outcome's unit, or ``"risk"``.
    features
        A row a feature, the largest first: ``modality``, ``feature``, ``attribution`` (mean over cells or
        donors), ``magnitude`` (mean of absolute values), ``n`` (cells or donors that have the modality).
    modalities
        Cells or donors by modalities: sums over features; NaN where a modality was not measured.
    error
        Prediction minus that of the typical cell minus all attributions, a cell or donor: what the sum over
        ``n_steps`` points misses of the integral. Small beside the attributions, or take more steps.
    """

    outcome: str
    target: str
    unit: str
    features: pd.DataFrame
    modalities: pd.DataFrame
    error: pd.Series

    def __repr__(self) -> str:
        share = self.modalities.abs().mean()
        of = f"{self.outcome!r} = {self.target!r}" if self.target else repr(self.outcome)
        lines = [
            f"What moved {of} of {len(self.modalities)} away from the typical training cell, in {self.unit}",
            "by modality, mean absolute: "
            + ", ".join(f"{name} {value:.3g}" for name, value in share.items()),
            self.features.head(ROWS_SHOWN).to_string(index=False, float_format="{:.3g}".format),
            f"left over by the integration: {self.error.abs().max():.2g} at the most",
            "Attributions say what the model used. They are no effects, and no tests.",
        ]
        return "\n".join(lines)


def explain(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    reader: OutcomeReader,
    target: int,
    reference: tuple[MultimodalData, np.ndarray],
    n_steps: int,
    seed: int,
) -> Explanation:
    """Integrated gradients of a head along the way from the mean input of training cells.

    Parameters
    ----------
    module, data, cells
        The model, the registered cells, the positions wanted.
    reader, target
        The head and the category.
    reference
        Training cells; the start of the way is the mean of what encoders read of at most
        `REFERENCE_CELLS` of them.
    n_steps
        Points along the way.
    seed
        Of the draw of reference cells.
    """
    was_training = module.training
    module.eval()
    try:
        typical = _typical(module, *reference, seed)
        totals = _Totals(module, data)
        for names, minibatch in _units(data, cells, reader):
            _one(module, minibatch, reader, target, typical, n_steps, names, totals)
    finally:
        module.train(was_training)
    head = reader.output
    categories = head.outcome.categories
    unit = "log odds" if categories else "risk" if head.outcome.kind == "survival" else "its own unit"
    return Explanation(
        head.outcome.name,
        categories[target] if categories else "",
        unit,
        totals.features(),
        totals.modalities(),
        totals.error(),
    )


def category_code(outcome: OutcomeSchema, category: str | None) -> int:
    """Position of a category; the last one for None, 0 where there are none.

    Raises
    ------
    InputError
        If the outcome has no categories, or not this one.
    """
    if category is None:
        return max(0, len(outcome.categories) - 1)
    if category not in outcome.categories:
        raise InputError(
            f"The {outcome.kind} outcome {outcome.name!r} has no category {category!r}. "
            f"{did_you_mean(category, outcome.categories)}"
        )
    return outcome.categories.index(category)


class _Totals:
    """Sums over cells or donors of what every feature moved."""

    def __init__(self, module: MultimodalModule, data: MultimodalData) -> None:
        self.schemas = data.schema.modalities
        self.sums = [np.zeros(schema.n_features) for schema in self.schemas]
        self.magnitudes = [np.zeros(schema.n_features) for schema in self.schemas]
        self.n = [0] * len(self.schemas)
        self.names: list[str] = []
        self.by_modality: list[np.ndarray] = []
        self.errors: list[float] = []

    def add(self, modality: int, units: np.ndarray) -> None:
        """Attributions of some units that have the modality, ``(U, F)``."""
        self.sums[modality] += units.sum(0)
        self.magnitudes[modality] += np.abs(units).sum(0)
        self.n[modality] += len(units)

    def features(self) -> pd.DataFrame:
        parts = []
        for schema, total, magnitude, n in zip(self.schemas, self.sums, self.magnitudes, self.n, strict=True):
            table = pd.DataFrame({"modality": schema.name, "feature": list(schema.features)})
            parts.append(table.assign(attribution=total / max(n, 1), magnitude=magnitude / max(n, 1), n=n))
        whole = pd.concat(parts, ignore_index=True)
        return whole.sort_values("magnitude", ascending=False, kind="stable", ignore_index=True)

    def modalities(self) -> pd.DataFrame:
        columns = [schema.name for schema in self.schemas]
        return pd.DataFrame(np.array(self.by_modality), index=pd.Index(self.names), columns=columns)

    def error(self) -> pd.Series:
        return pd.Series(self.errors, index=pd.Index(self.names), name="error")


def _one(
    module: MultimodalModule,
    minibatch: Minibatch,
    reader: OutcomeReader,
    target: int,
    typical: tuple[_Typical, ...],
    n_steps: int,
    names: list[str],
    totals: _Totals,
) -> None:
    """One donor, or a block of cells."""
    inputs = encoder_inputs(module, minibatch)
    starts = tuple(
        torch.where(minibatch.present[:, m, None], each.inputs, torch.zeros_like(each.inputs))
        for m, each in enumerate(typical)
    )
    found = path_gradients(module, minibatch, reader, target, inputs, starts, n_steps)
    n_units = len(names)
    by_modality = np.full((n_units, len(inputs)), np.nan)
    for m, (part, batch) in enumerate(zip(module.parts, minibatch.modalities, strict=True)):
        if len(batch.rows) == 0:
            continue
        gradient = found.gradients[m].reshape(minibatch.n_cells, -1)[batch.rows]  # (B_m, n_inputs)
        moved = _of_features(part, batch, gradient, typical[m])  # (B_m, F)
        if reader.of_donors:
            moved = moved.sum(0, keepdim=True)
        rows = [0] if reader.of_donors else batch.rows.cpu().tolist()
        by_modality[rows, m] = moved.sum(1).cpu().numpy()
        totals.add(m, moved.cpu().numpy())
    change = (found.at_cells - found.at_reference).cpu().numpy()
    totals.names += names
    totals.by_modality += list(by_modality)
    totals.errors += (change - np.nansum(by_modality, axis=1)).tolist()


@dataclass(frozen=True, eq=False)
class _Typical:
    """The start of the way of one modality: means of encoder inputs and of transformed features."""

    inputs: Tensor
    transformed: Tensor


def _typical(
    module: MultimodalModule, data: MultimodalData, cells: np.ndarray, seed: int
) -> tuple[_Typical, ...]:
    generator = np.random.default_rng(seed)
    if len(cells) > REFERENCE_CELLS:
        cells = np.sort(generator.choice(cells, REFERENCE_CELLS, replace=False))
    device = next(module.parameters()).device
    sums: list[Tensor | None] = [None] * module.n_modalities
    counts = [0] * module.n_modalities
    with torch.no_grad():
        for minibatch in MinibatchLoader(data, cells, CELLS_AT_ONCE):
            for m, (part, batch) in enumerate(
                zip(module.parts, minibatch.to(device).modalities, strict=True)
            ):
                if len(batch.rows) == 0:
                    continue
                total = _dense(part.encoder.transform(batch)).sum(0)
                before = sums[m]
                sums[m] = total if before is None else before + total
                counts[m] += len(batch.rows)
    found = []
    for part, summed, n in zip(module.parts, sums, counts, strict=True):
        width = part.encoder.transform.n_outputs
        mean = torch.zeros(width, device=device) if summed is None else summed / n
        projection = part.encoder.projection
        # The projection is linear, so the mean of projected cells is the projected mean.
        found.append(_Typical(mean if projection is None else projection(mean[None])[0], mean))
    return tuple(found)


def _of_features(part: ModalityParts, batch: ModalityBatch, gradient: Tensor, typical: _Typical) -> Tensor:
    """(input − start) times the average gradient, of the features themselves: ``(B_m, F)``."""
    encoder = part.encoder
    with torch.no_grad():
        if encoder.projection is not None:
            gradient = gradient @ encoder.projection.components.T  # (B_m, n_outputs)
        moved = (_dense(encoder.transform(batch)) - typical.transformed) * gradient
        if isinstance(encoder.transform, OneHot):
            feature = torch.repeat_interleave(encoder.transform.sizes)
            n_features = len(encoder.transform.sizes)
            moved = moved.new_zeros(len(moved), n_features).index_add(1, feature.to(moved.device), moved)
    return moved


def _dense(transformed: Tensor | SparseRows) -> Tensor:
    return transformed.to_dense() if isinstance(transformed, SparseRows) else transformed


def _units(
    data: MultimodalData, cells: np.ndarray, reader: OutcomeReader
) -> Iterator[tuple[list[str], Minibatch]]:
    """Whole donors, or blocks of cells."""
    device = next(reader.parameters()).device
    if reader.of_donors:
        assert data.labels is not None
        known = cells_of_donors(data, cells, reader)
        for code in np.unique(data.donor[known]):
            own = known[data.donor[known] == code]
            (minibatch,) = MinibatchLoader(data, own, len(own))
            yield [data.labels.donor_names[code]], minibatch.to(device)
        return
    for minibatch in MinibatchLoader(data, cells, CELLS_AT_ONCE):
        yield [str(name) for name in data.cell_names[minibatch.cells.numpy()]], minibatch.to(device)
