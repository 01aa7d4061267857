"""Peak memory of training beyond what the data and the fresh model hold, with very many peaks."""

from __future__ import annotations

from speed_clock import PeakMemory
from speed_contenders import Contender, Multivae, Multivi
from speed_data import spaced
from speed_records import PartRecord, Plan, Sheet
from speed_step import missing_text
from speed_variants import MULTIVI_DEFAULTS, multivae_variants
from speed_worker import Worker, WorkerError

SECONDS = 220.0
N_EPOCHS = 2  # the optimiser's state is there from the second step on
GIB = 2**30


def memory(plan: Plan) -> PartRecord:
    """Every run in a process of its own, methods in turn."""
    spec, batch_size, sheet = plan.sizes.memory, plan.sizes.memory_batch_size, Sheet("memory", SECONDS)
    case = f"{spaced(spec.n_peaks)} peaks, batch {spaced(batch_size)}"
    kinds: list[tuple[str, type[Contender]]] = [("MULTIVI", Multivi)]
    variants = [MULTIVI_DEFAULTS]
    for variant in multivae_variants(plan.sizes.features_per_step):
        kinds.append(("MultiVAE", Multivae))
        variants.append(variant)
    failed: set[str] = set()
    for n_round in sheet.rounds(plan.repeats):
        for (method, kind), variant in zip(kinds, variants, strict=True):
            if variant.missing:
                if n_round == 0:
                    sheet.note(case, method, variant.label, missing_text(variant))
                continue
            if variant.label in failed:
                continue
            with Worker(kind, plan.accelerator, plan.threads) as worker:
                prepared = worker.call("prepare", spec, "mlp")
                try:
                    peak: PeakMemory = worker.call("memory", variant.training(batch_size, N_EPOCHS))
                except WorkerError as error:
                    if method == "MULTIVI" or variant == variants[1]:
                        raise
                    failed.add(variant.label)
                    sheet.note(case, method, variant.label, f"failed: {error}")
                    continue
            sheet.add(case, method, variant.label, "GiB", peak.beyond / GIB)
            if n_round == 0 and variant in (MULTIVI_DEFAULTS, variants[1]):
                sheet.fact(f"held by {method} before training ({peak.how})", peak.before / GIB, "GiB")
                sheet.fact(f"parameters of {method}", prepared.n_parameters / 1e6, "million")
    return sheet.record(spec.text, plan)
