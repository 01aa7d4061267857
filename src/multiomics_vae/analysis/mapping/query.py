"""A model for new cells, made from a fitted one: its weights, its memory, and room for new categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from multiomics_vae.analysis.aids import PredictionAids
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.evidence import showing_only
from multiomics_vae.analysis.latent import latent_table
from multiomics_vae.analysis.mapping.cohort_learning import MOST_CELLS, Side, learn_cohort, often_seen
from multiomics_vae.analysis.mapping.contrast import LEFT_OUT, measured
from multiomics_vae.analysis.mapping.hidden_halves import showing_features
from multiomics_vae.analysis.mapping.memory import (
    MOST_HELD_OUT,
    ReferenceMemory,
    Subset,
    having_all,
    learn_memory,
    name_keys,
    some,
)
from multiomics_vae.architecture import ModelConfig
from multiomics_vae.data.checks import check_container
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.gaps import FeatureNorms
from multiomics_vae.data.registration import read
from multiomics_vae.data.schema import Schema
from multiomics_vae.data.strata import with_strata
from multiomics_vae.data.tolerance import Tolerance, with_new_categories
from multiomics_vae.errors import InputError, warn
from multiomics_vae.extension import extend_module
from multiomics_vae.module import MultimodalModule
from multiomics_vae.networks.covariates import CovariateEncoding

BATCH_SIZE = 512
FEWEST_STEPS, FEWEST_EPOCHS = 400, 15
LEARNING_RATE = 1e-2


@dataclass(frozen=True, eq=False)
class Reference:
    """A fitted model, with its cells if they are at hand.

    Parameters
    ----------
    config, schema, module, aids
        The model.
    memory
        Of its cells; None if it was saved without.
    data
        Its cells; None where only the saved model is there.
    training, held_out
        Positions of those it was trained on and of those it was not.
    """

    config: ModelConfig
    schema: Schema
    module: MultimodalModule
    aids: PredictionAids
    memory: ReferenceMemory | None
    data: MultimodalData | None = None
    training: np.ndarray | None = None
    held_out: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Query:
    """New cells under a fitted model that has room for their categories.

    Parameters
    ----------
    config, module, aids, memory
        Of the model that will hold them.
    data
        The cells, under a schema with their categories.
    n_new
        New categories of the batch, then of each categorical covariate.
    """

    config: ModelConfig
    module: MultimodalModule
    aids: PredictionAids
    memory: ReferenceMemory
    data: MultimodalData
    n_new: tuple[int, ...]


def make_query(mdata: Any, reference: Reference, max_missing: float) -> Query:
    """Read new cells, and make the model that will hold them.

    Raises
    ------
    InputError
        For too many missing features, a reference that is a query itself, and whatever `read` refuses.
    """
    if not isinstance(reference.module.covariates, CovariateEncoding):
        raise InputError(
            "The reference is a query itself, whose new categories few cells have taught. Map onto the model "
            "that it was mapped onto: MultiVAE.map_query(mdata, reference=original)"
        )
    check_container(mdata)
    memory = _memory_of(reference)
    given = [name for name in mdata.mod if name not in reference.schema.modality_names]
    if given and set(mdata.mod) - set(given):
        warn(f"The reference has no {given}: what the new cells show there is left out.")
    tolerance = Tolerance(max_missing, () if memory is None else memory.norms)
    schema, n_new = with_new_categories(mdata, reference.schema)
    data = read(mdata, schema, tolerance).with_own_values()
    data = with_strata(data, mdata, reference.config.batch_correction.conditional_on, needed=False)
    if memory is None:
        raise InputError(
            "The reference was saved without a memory of its cells, by an older version. Give the cells that "
            "it was trained on: MultiVAE.map_query(mdata, reference, reference_mdata=reference_mdata)"
        )
    module = extend_module(reference.module, n_new, reference.config.encode_covariates)
    memory = replace(_like_query(memory, reference, data), max_missing=max_missing)
    aids = _with_room(reference.aids, reference.module, sum(n_new))
    return Query(reference.config, module, aids, memory, data, n_new)


def epochs_for(n_cells: int, batch_size: int) -> int:
    """Passes for the new weights, which are few: 400 steps, and at least 15 passes."""
    steps = -(-n_cells // batch_size)
    return max(FEWEST_EPOCHS, -(-FEWEST_STEPS // steps))


def _memory_of(reference: Reference) -> ReferenceMemory | None:
    if reference.memory is not None or reference.data is None:
        return reference.memory
    if reference.training is None or reference.held_out is None:
        return None
    return learn_memory(reference.module, reference.data, reference.training, reference.held_out, BATCH_SIZE)


def _like_query(memory: ReferenceMemory, reference: Reference, query: MultimodalData) -> ReferenceMemory:
    """Held-out cells seen as the new ones are: without the features, with the modalities, that these have."""
    subsets = patterns(query)
    if reference.data is not None and reference.held_out is not None:
        seen_cells = seen_like(reference.data, reference.held_out, query, memory.norms)
        everyone = np.arange(seen_cells.n_cells)
        seen = learn_memory(
            reference.module, seen_cells, everyone[:0], everyone, BATCH_SIZE, subsets, memory.norms
        )
        return replace(memory, held_out={**memory.held_out, **seen.held_out})
    if any(_measured(part) is not None for part in query.modalities) or not all(
        subset in memory.held_out for subset in subsets
    ):
        warn(
            "The new cells lack features or have modalities together in a way that the saved reference does "
            "not remember, so that their confidence is compared with cells that lack nothing. Give its "
            "cells: MultiVAE.map_query(mdata, reference, reference_mdata=reference_mdata)"
        )
    return memory


def with_cohorts(
    memory: ReferenceMemory, module: MultimodalModule, query: MultimodalData, reference: Reference
) -> ReferenceMemory:
    """The memory, with what the new cells share, where the cells of the reference are at hand.

    Parameters
    ----------
    memory, module, query
        Of the query.
    reference
        What it was mapped onto.
    """
    if reference.data is None or reference.held_out is None or reference.training is None:
        return memory
    cohorts = {}
    for subset in patterns(query):
        same = (query.present == np.isin(np.arange(module.n_modalities), subset)).all(axis=1)
        new = showing_only(query.loaded(some(np.flatnonzero(same), MOST_CELLS, 0)), subset)
        chosen = (
            some(having_all(reference.data, cells, subset), most, 0)
            for cells, most in ((reference.training, 2 * MOST_CELLS), (reference.held_out, MOST_HELD_OUT))
        )
        known = [
            showing_only(seen_like(reference.data, cells, query, memory.norms), subset) for cells in chosen
        ]
        sides = [
            (data, latent_table(module, data, np.arange(data.n_cells), BATCH_SIZE).mean)
            for data in (new, *known)
        ]
        for m in subset:
            likelihood = module.likelihoods[m]
            if likelihood.support in LEFT_OUT:
                continue
            features = often_seen(likelihood.n_features, memory.norms[m])
            each = [Side(z, measured(data, m, features, likelihood.support)) for data, z in sides]
            found = learn_cohort(each[0], each[1], each[2], features, name_keys(new.cell_names))
            if found is not None:
                cohorts[subset, m] = found
    return replace(memory, cohorts=cohorts)


def patterns(data: MultimodalData) -> list[Subset]:
    """The sets of modalities that cells have."""
    return [tuple(int(m) for m in np.flatnonzero(each)) for each in np.unique(data.present, axis=0)]


def seen_like(
    data: MultimodalData,
    cells: np.ndarray,
    query: MultimodalData,
    norms: tuple[FeatureNorms | None, ...],
) -> MultimodalData:
    """Cells of the reference, in memory, as if the features that new cells lack had not been measured."""
    loaded = data.loaded(cells)
    parts = list(loaded.modalities)
    for m, (part, other) in enumerate(zip(parts, query.modalities, strict=True)):
        measured = _measured(other)
        if measured is not None:
            parts[m] = showing_features(part, measured, norms[m], data.schema.modalities[m].depth_from_values)
    return replace(loaded, modalities=tuple(parts))


def _measured(part: Any) -> np.ndarray | None:
    if part.gaps is not None:
        measured: np.ndarray = part.gaps.measured.numpy()
        return measured
    if part.observed is not None and not part.observed.any(axis=0).all():
        found: np.ndarray = part.observed.any(axis=0)
        return found
    return None


def _with_room(aids: PredictionAids, module: MultimodalModule, n_new: int) -> PredictionAids:
    """Depths that also read the columns of new categories, as which they change nothing."""
    place = module.n_latent + module.covariates.n_outputs
    depths: Mapping[Direction, DepthModel] = {
        direction: replace(
            depth, slope=_padded(depth.slope, place, n_new), centre=_padded(depth.centre, place, n_new)
        )
        for direction, depth in aids.depths.items()
    }
    return PredictionAids(depths, aids.calibration, aids.outcomes)


def _padded(row: torch.Tensor, place: int, n: int) -> torch.Tensor:
    return torch.cat([row[:place], row.new_zeros(n), row[place:]])
