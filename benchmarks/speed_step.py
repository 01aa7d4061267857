"""Seconds of one training step, in the training loops that users run."""

from __future__ import annotations

from speed_contenders import Multivae, Multivi, Prepared
from speed_data import spaced
from speed_records import PartRecord, Plan, Sheet
from speed_variants import MULTIVI_DEFAULTS, Variant, multivae_variants
from speed_worker import Worker, WorkerError

SECONDS = 420.0


def step(plan: Plan) -> PartRecord:
    """MULTIVI, then every variant of MultiVAE, round after round.

    MultiVAE has a hidden layer in front of every output layer here, as MULTIVI has. With few cells its
    own choice is a linear decoder for the peaks, which is cheaper; that has a row of its own.
    """
    spec, sheet = plan.sizes.step, Sheet("step", SECONDS)
    variants = multivae_variants(plan.sizes.features_per_step)
    with (
        Worker(Multivi, plan.accelerator, plan.threads) as peer,
        Worker(Multivae, plan.accelerator, plan.threads) as ours,
        Worker(Multivae, plan.accelerator, plan.threads) as ours_auto,
    ):
        sheet.say(f"{spec.text}; making the models")
        note_prepared(sheet, "MULTIVI", peer.call("prepare", spec, ""))
        own: Prepared = ours.call("prepare", spec, "mlp")
        note_prepared(sheet, "MultiVAE", own)
        auto: Prepared = ours_auto.call("prepare", spec, "auto")
        note_prepared(sheet, "MultiVAE, decoders of its own choice", auto)
        rows = [("MULTIVI", peer, MULTIVI_DEFAULTS)]
        cheapest = multivae_variants(plan.sizes.features_per_step // 5)[-1]
        rows += [("MultiVAE", ours, variant) for variant in (*variants, cheapest)]
        if auto.description != own.description:
            for variant in (variants[0], variants[-1], cheapest):
                label = f"{variant.label}, decoders by default: {auto.description}"
                rows.append(("MultiVAE", ours_auto, Variant(label, variant.options, variant.missing)))
        failed: set[tuple[str, str]] = set()
        for n_round in sheet.rounds(plan.repeats):
            for batch_size in plan.batch_sizes:
                case = f"batch {spaced(batch_size)}"
                for method, worker, variant in rows:
                    if variant.missing:
                        if n_round == 0:
                            sheet.note(case, method, variant.label, missing_text(variant))
                        continue
                    if (case, variant.label) in failed:
                        continue
                    try:
                        times = worker.call("steps", variant.training(batch_size, 1))
                    except WorkerError as error:
                        if method == "MULTIVI" or variant == variants[0]:
                            raise
                        failed.add((case, variant.label))
                        sheet.note(case, method, variant.label, f"failed: {error}")
                        continue
                    sheet.add(case, method, variant.label, "s", times.wall, times.cpu)
    return sheet.record(spec.text, plan)


def missing_text(variant: Variant) -> str:
    """Say why a variant has no numbers."""
    return f"not measured: this version has no {' and no '.join(variant.missing)}"


def note_prepared(sheet: Sheet, name: str, prepared: Prepared) -> None:
    """Write down what making a model took."""
    sheet.fact(f"making {name}", prepared.seconds, "s")
    sheet.fact(f"parameters of {name}", prepared.n_parameters / 1e6, "million")
