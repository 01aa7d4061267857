"""Which cells may be held out, where an outcome belongs to donors and not to cells."""

from __future__ import annotations

import numpy as np

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.donors import is_of_donors
from multiomics_vae.data.sources import shown
from multiomics_vae.errors import InputError, warn
from multiomics_vae.heads import NamedHead
from multiomics_vae.training.run import donors_on_both_sides, split_cells, split_donors


def outcomes_of_donors(data: MultimodalData, heads: tuple[NamedHead, ...]) -> list[str]:
    """Outcomes that belong to donors: by their head, or because they are the same in all cells of each."""
    if len(data.labels.donor_names if data.labels else ()) < 2:
        return []
    levels = {named.outcome: named.head.level for named in heads}
    return [
        outcome.name
        for outcome in data.schema.outcomes
        if levels.get(outcome.name) == "donor" or is_of_donors(data, outcome)
    ]


def split(
    data: MultimodalData,
    heads: tuple[NamedHead, ...],
    held_out: np.ndarray | None,
    validation_size: float,
    seed: int,
    allow_leakage: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Settle which cells are trained on and which are held out: (training, validation), both sorted.

    Parameters
    ----------
    data, heads
        The cells and what is predicted.
    held_out
        Positions that the user wants held out; None draws a share ``validation_size`` of the donors, or of
        the cells where no outcome belongs to donors.
    validation_size, seed
        Of the draw.
    allow_leakage
        Hold out cells as if no outcome belonged to donors.

    Raises
    ------
    InputError
        If the user's cells tear a donor apart without saying that they may.
    """
    of_donors = outcomes_of_donors(data, heads)
    if held_out is None and of_donors and not allow_leakage:
        return split_donors(data.donor, validation_size, seed)
    if held_out is None:
        training, validation = split_cells(data.n_cells, validation_size, seed)
    else:
        validation = np.unique(held_out)
        training = np.setdiff1d(np.arange(data.n_cells), validation)
    torn = donors_on_both_sides(data.donor, training, validation) if of_donors else np.empty(0, np.int64)
    if len(torn) == 0:
        return training, validation
    assert data.labels is not None
    names = [data.labels.donor_names[code] for code in torn]
    what = (
        f"Cells of {len(torn)} donors are both trained on and held out ({shown(names)}), and "
        f"{', '.join(map(repr, of_donors))} belongs to donors: it can be told by recognising the donor"
    )
    if not allow_leakage:
        raise InputError(
            f"{what}. Leave validation_indices out, or hold out donors: model.train(validation_indices="
            f"(mdata.obs[{data.schema.donor_key!r}] == {names[0]!r}).to_numpy()). To hold out these cells "
            "all the same: model.train(..., allow_leakage=True)"
        )
    warn(f"{what}. Held-out figures of such outcomes will be too good.")
    return training, validation
