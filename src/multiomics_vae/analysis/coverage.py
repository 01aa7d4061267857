"""How often held-out values fall into the intervals that a model gives, and the maps that mend it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import combinations

import numpy as np
import pandas as pd

from multiomics_vae.analysis.calibration import (
    LevelMap,
    central_coverage,
    held_out_scores,
)
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.module import MultimodalModule

NOMINAL = (0.5, 0.8, 0.9, 0.95)
MOST_CELLS, MOST_FEATURES = 1_000, 500
ALL_SUBSETS_UP_TO = 3  # modalities


def interval_coverage(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    direction: Direction,
    features: np.ndarray,
    n_samples: int,
    depth: DepthModel | None,
    seed: int = 0,
    levels: Sequence[float] = NOMINAL,
    level_map: LevelMap | None = None,
) -> pd.DataFrame:
    """Share of held-out values inside the central intervals of some nominal levels.

    From the randomised probability integral transform: plain intervals of counts that are mostly 0 cover
    more than they say, whatever the model.

    Parameters
    ----------
    module, data, cells, batch_size, direction, features, n_samples, depth, seed
        As in `held_out_scores`.
    levels
        Nominal.
    level_map
        Adds a column of recalibrated intervals.

    Returns
    -------
    DataFrame
        A row a level; ``model``, ``calibrated`` (with a map), and ``n`` values.
    """
    scores = pooled_scores(
        module, data, cells, batch_size, direction, features, n_samples, depth, seed
    )  # (n,)
    table = pd.DataFrame(index=pd.Index(list(levels), name="level"))
    table["model"] = [central_coverage(scores, level) for level in levels]
    if level_map is not None:
        mapped = level_map.stated_score(scores)
        table["calibrated"] = [central_coverage(mapped, level) for level in levels]
    table["n"] = len(scores)
    return table


def pooled_scores(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    direction: Direction,
    features: np.ndarray,
    n_samples: int,
    depth: DepthModel | None,
    seed: int = 0,
) -> np.ndarray:
    """Scores of all observed entries of `held_out_scores`, ``(n,)``."""
    blocks = held_out_scores(module, data, cells, batch_size, direction, features, n_samples, depth, seed)
    with closing(blocks):
        found = [scores[observed] for scores, observed in blocks]
    return np.concatenate(found) if found else np.empty(0)


def directions(n_modalities: int) -> tuple[Direction, ...]:
    """What a model is calibrated for: denoising, and each target from others.

    From every subset of the others if there are at most three modalities, else from each alone and from
    all of them.
    """
    found = []
    for target in range(n_modalities):
        others = tuple(m for m in range(n_modalities) if m != target)
        sizes = range(1, len(others) + 1)
        if n_modalities > ALL_SUBSETS_UP_TO:
            sizes = {1, len(others)}  # type: ignore[assignment]
        found.append(Direction(target, None))
        found += [Direction(target, given) for size in sorted(sizes) for given in combinations(others, size)]
    return tuple(found)


def cells_for(data: MultimodalData, cells: np.ndarray, direction: Direction) -> np.ndarray:
    """Those of some cells that have the target and something of what is given."""
    present = data.present[cells]
    usable = present[:, direction.modality]
    if direction.given is not None:
        usable = usable & present[:, list(direction.given)].any(axis=1)
    return np.asarray(cells[usable])


def some_of(positions: np.ndarray, most: int, seed: int) -> np.ndarray:
    """A random part if there are more than ``most``, in order."""
    if len(positions) <= most:
        return positions
    return np.sort(np.random.default_rng(seed).choice(positions, most, replace=False))
