"""What an evaluation is about: a model, cells, and how they are gone through."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.module import MultimodalModule

ALL, NOTHING = "all", "nothing"


@dataclass(frozen=True)
class Question:
    """The model and the cells that every measure is taken on.

    Parameters
    ----------
    module, data, cells
        The model, the registered cells, the positions asked about, ``(N,)``.
    batch_size
        Cells at a time.
    n_samples
        Draws of z a cell, where an expectation is estimated.
    seed
        Of the cells' noise, and of whatever is drawn at random.
    """

    module: MultimodalModule
    data: MultimodalData
    cells: np.ndarray
    batch_size: int
    n_samples: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return self.data.schema.modality_names

    @property
    def present(self) -> np.ndarray:
        """Which of the cells has which modality, ``(N, M)``, bool."""
        present: np.ndarray = self.data.present[self.cells]
        return present

    def having(self, *modalities: int) -> Question:
        """The same about the cells that have all of some modalities."""
        return replace(self, cells=self.cells[self.present[:, list(modalities)].all(axis=1)])

    def drawn(self, n_cells: int) -> Question:
        """The same about at most so many cells, drawn at random; their order is kept."""
        if len(self.cells) <= n_cells:
            return self
        generator = np.random.default_rng(self.seed)
        chosen = np.sort(generator.choice(len(self.cells), n_cells, replace=False))
        return replace(self, cells=self.cells[chosen])

    def pairs(self) -> list[tuple[int, int]]:
        """Every two modalities that some of the cells have both."""
        present, n_modalities = self.present, len(self.names)
        return [
            (a, b)
            for a in range(n_modalities)
            for b in range(a + 1, n_modalities)
            if present[:, [a, b]].all(axis=1).any()
        ]


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over cells and its standard error; NaN where there are too few."""
    mean = float(values.mean()) if len(values) else float("nan")
    return mean, float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
