"""Seconds for the latent representation of many cells."""

from __future__ import annotations

import numpy as np

from speed_contenders import Multivae, Multivi, Training
from speed_data import spaced
from speed_records import PartRecord, Plan, Sheet
from speed_step import note_prepared
from speed_variants import ONE_ELBO
from speed_worker import Worker

SECONDS = 220.0
TOKEN_BATCH_SIZE = 1_024
TOKEN_CELLS = 256


def latent(plan: Plan) -> PartRecord:
    """Both after a token training, at their own batch sizes and at those asked for.

    MULTIVI is trained on a few of its cells only, because an epoch of all of them would take longer than
    what is measured.
    """
    spec, sheet = plan.sizes.latent, Sheet("latent", SECONDS)
    case = f"{spaced(spec.n_cells)} cells × {spaced(spec.n_genes + spec.n_peaks)} features"
    with (
        Worker(Multivi, plan.accelerator, plan.threads) as peer,
        Worker(Multivae, plan.accelerator, plan.threads) as ours,
    ):
        rows: list[tuple[str, Worker, int | None, str]] = []
        cells = np.arange(spec.n_cells)
        few = {"external_indexing": [cells[:TOKEN_CELLS], cells[:0], cells[TOKEN_CELLS:]]}
        tokens = (("MULTIVI", peer, (("datasplitter_kwargs", few),)), ("MultiVAE", ours, (ONE_ELBO,)))
        for method, worker, options in tokens:
            sheet.say(f"{method}: {spec.text}; making the model")
            note_prepared(sheet, method, worker.call("prepare", spec, "mlp"))
            worker.call("train", Training(TOKEN_BATCH_SIZE, 1, options))
            own: int = worker.call("latent_batch_size")
            rows.append((method, worker, None, f"defaults (batch {own})"))
            rows += [(method, worker, size, f"batch {size}") for size in plan.batch_sizes if size != own]
        for _ in sheet.rounds(plan.repeats):
            for method, worker, batch_size, label in rows:
                sheet.add(case, method, label, "s", worker.call("latent", batch_size))
    return sheet.record(spec.text, plan)
