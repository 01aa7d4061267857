"""Calibration of a head from the cells that training held out."""

from __future__ import annotations

import numpy as np

from multiomics_vae.analysis.outcomes.calibrated_outcome import OutcomeCalibration, learn_calibration
from multiomics_vae.analysis.outcomes.scores import outcome_scores
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.donors import is_of_donors
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.module import MultimodalModule

N_SAMPLES = 50
CELLS_AT_ONCE = 512


def held_out_calibration(
    module: MultimodalModule, data: MultimodalData, cells: np.ndarray, reader: OutcomeReader
) -> OutcomeCalibration | None:
    """Ask a head about held-out cells, or their donors, and compare with their labels.

    Parameters
    ----------
    module, data
        The trained model and its cells.
    cells
        Positions of those that were held out.
    reader
        The head.

    Returns
    -------
    OutcomeCalibration or None
        None where nothing can be learned: no labels, no donors, or survival.
    """
    columns = data.schema.label_columns(reader.name)
    cells = cells[~np.isnan(data.outcomes[cells][:, columns]).any(axis=1)]
    if reader.of_donors:
        cells = cells[data.donor[cells] >= 0]
    if len(cells) == 0:
        return None
    scores = outcome_scores(module, data, cells, CELLS_AT_ONCE, reader, N_SAMPLES)
    if reader.of_donors:
        return learn_calibration(reader.output, scores, None, of_donors=True)
    if not is_of_donors(data, data.schema.outcome(reader.name)):
        return learn_calibration(reader.output, scores, None, of_donors=False)
    donor = data.donor[cells]
    alone = donor < 0
    donor[alone] = data.n_cells + np.arange(int(alone.sum()))  # a cell of nobody is a donor of its own
    return learn_calibration(reader.output, scores, donor, of_donors=True)
