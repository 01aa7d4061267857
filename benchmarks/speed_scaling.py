"""How a step grows with the number of peaks, and an epoch with the number of cells."""

from __future__ import annotations

import math

from speed_contenders import Multivae, Multivi
from speed_data import CellSpec, spaced
from speed_records import Measurement, PartRecord, Plan, Sheet
from speed_variants import MULTIVI_DEFAULTS, Variant, multivae_variants
from speed_worker import Worker

SECONDS = 440.0
SIZES_OF_PEER = 2
MOST_ROUNDS = 2
N_EPOCHS = 2  # an epoch is timed from the end of the one before


def scaling(plan: Plan) -> PartRecord:
    """MultiVAE at every size, MULTIVI at the two smallest."""
    sizes, sheet = plan.sizes, Sheet("scaling", SECONDS)
    batch_size = plan.batch_sizes[0]
    variants = multivae_variants(sizes.features_per_step)
    exact, sampled = variants[0], variants[4]
    growths = (
        ("step, by peaks", sizes.scaling_peaks, (exact,) if sampled.missing else (exact, sampled), 0.4),
        ("epoch, by cells", sizes.scaling_cells, (exact,), 1.0),
    )
    with (
        Worker(Multivi, plan.accelerator, plan.threads) as peer,
        Worker(Multivae, plan.accelerator, plan.threads) as ours,
    ):
        for growth, specs, chosen, until in growths:
            for i, spec in enumerate(specs):
                x = spec.n_peaks if growth.startswith("step") else spec.n_cells
                case = f"{growth}: {spaced(x)}"
                sheet.say(f"{case}; making the models of {spec.text}")
                rows = [("MultiVAE", ours, variant) for variant in chosen]
                if i < SIZES_OF_PEER:
                    rows.insert(0, ("MULTIVI", peer, MULTIVI_DEFAULTS))
                for worker in {id(worker): worker for _, worker, _ in rows}.values():
                    worker.call("prepare", spec, "mlp")
                for _ in sheet.rounds(min(plan.repeats, MOST_ROUNDS), until):
                    for method, worker, variant in rows:
                        _measure(sheet, growth, case, method, worker, variant, batch_size, x)
    record = sheet.record(_described(growths[0][1], growths[1][1], batch_size), plan)
    for growth, _, _, _ in growths:
        _add_slopes(sheet, record.measurements, growth)
    return sheet.record(record.data, plan)


def _measure(
    sheet: Sheet,
    growth: str,
    case: str,
    method: str,
    worker: Worker,
    variant: Variant,
    batch_size: int,
    x: int,
) -> None:
    times = worker.call("steps", variant.training(batch_size, N_EPOCHS))
    if growth.startswith("step"):
        sheet.add(case, method, variant.label, "s", times.wall, times.cpu, size=x)
    else:
        sheet.add(case, method, variant.label, "s", times.epoch, size=x)


def _add_slopes(sheet: Sheet, measurements: tuple[Measurement, ...], growth: str) -> None:
    """Fit log seconds = slope · log size + constant over the sizes of each method and variant."""
    import numpy as np

    rows = [row for row in measurements if row.case.startswith(growth) and row.size is not None]
    for method, variant in dict.fromkeys((row.method, row.variant) for row in rows):
        own = [row for row in rows if (row.method, row.variant) == (method, variant)]
        x = [math.log(row.size) for row in own if row.size]
        y = [math.log(float(np.median(row.values))) for row in own]
        slope = float(np.polyfit(x, y, 1)[0])
        sheet.fact(f"log-log slope of {growth}: {method}, {variant} ({len(own)} sizes)", slope, "")


def _described(peaks: tuple[CellSpec, ...], cells: tuple[CellSpec, ...], batch_size: int) -> str:
    by_peaks = f"{spaced(peaks[0].n_cells)} cells, {spaced(peaks[0].n_genes)} genes, 4.75 % of the peaks open"
    by_cells = f"{spaced(cells[0].n_genes)} genes, {spaced(cells[0].n_peaks)} peaks"
    return f"by peaks: {by_peaks}; by cells: {by_cells}; batch {batch_size}"
