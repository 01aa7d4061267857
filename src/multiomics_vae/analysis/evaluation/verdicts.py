"""Judgements on an evaluation: what is well, what is not, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from multiomics_vae.analysis.evaluation.entropy import Overconfidence
from multiomics_vae.analysis.evaluation.question import ALL

SMALLEST_KL = 0.1  # nats a cell: below, the posterior is the prior for any purpose
FEW_UNITS = 0.1  # share of the latent dimensions
JUDGED_LEVEL, SLACK = 0.9, 0.03


@dataclass(frozen=True)
class Verdict:
    """One judgement.

    Parameters
    ----------
    subject
        What was looked at: ``"joint posterior"``, a modality, ``"entropy"`` …
    is_well
        Whether nothing needs to be done.
    sentence
        What was found and, if not well, what to do.
    """

    subject: str
    is_well: bool
    sentence: str

    def __str__(self) -> str:
        return f"[{'ok' if self.is_well else '!!'}] {self.subject}: {self.sentence}"


def joint_collapse(n_active: int, n_latent: int, kl: float) -> Verdict:
    """Whether the joint posterior tells cells apart: active units, and nats above the prior."""
    found = f"{n_active} of {n_latent} latent dimensions are active, KL {kl:.2f} nats a cell"
    subject = "joint posterior"
    if n_active == 0 or kl < SMALLEST_KL:
        return Verdict(
            subject,
            False,
            f"collapsed onto the prior: {found}. Train a new model with a weaker and slower KL: "
            "model.train(kl_weight=0.1, warmup_epochs=20), or with free_bits=0.1",
        )
    if n_active < FEW_UNITS * n_latent:
        return Verdict(
            subject,
            False,
            f"mostly collapsed: {found}. Train a new model with free_bits=0.1, or with a smaller n_latent if "
            "the cells are few",
        )
    return Verdict(subject, True, f"{found}")


def modality_collapse(
    name: str, n_active: int | None, kl: float | None, gain: tuple[float, float]
) -> Verdict:
    """Whether a modality's encoder says something of a cell, and its decoder listens to z.

    Parameters
    ----------
    name
        Of the modality.
    n_active, kl
        Of q(z | x_m); None where it is the only modality, and so the joint posterior.
    gain
        What log p(x_m | z) gains by the cell's own z, mean and standard error.
    """
    if math.isnan(gain[0]):
        return Verdict(name, True, "none of these cells has it")
    problems = []
    if n_active is not None and kl is not None and (n_active == 0 or kl < SMALLEST_KL):
        problems.append(
            f"its encoder has collapsed: q(z | {name}) is the prior ({n_active} active dimensions)"
        )
    if gain[0] <= 2.0 * gain[1] or gain[0] < SMALLEST_KL:
        problems.append(f"its decoder ignores z (gain {gain[0]:.2f} ± {gain[1]:.2f} nats a cell)")
    if problems:
        return Verdict(
            name,
            False,
            f"{' and '.join(problems)}. Let it count more and the KL less: "
            f"model.train(modality_weights={{{name!r}: 3.0}}, kl_weight=0.3, subset_weight=1.0)",
        )
    found = f"z is worth {gain[0]:.1f} nats a cell to its decoder"
    if n_active is not None:
        found = f"{n_active} dimensions follow it alone, {found}"
    return Verdict(name, True, found)


def entropy_verdict(overconfident: tuple[Overconfidence, ...]) -> Verdict:
    """Whether less evidence leaves the posterior less sure."""
    if not overconfident:
        return Verdict("entropy", True, "less evidence never makes the posterior surer")
    worst = overconfident[0]
    return Verdict(
        "entropy",
        False,
        f"too sure with little evidence: the entropy of q(z | {worst.less}) is {worst.excess:.2f} nats below "
        f"that of q(z | {worst.more}) on the same cells. Train the subsets to honest widths: "
        'model.train(subset_objective="within", subset_weight=1.0)',
    )


def collapse_verdicts(
    n_active: Mapping[str, int],
    n_latent: int,
    kl: Mapping[str, float],
    gain: Mapping[str, tuple[float, float]],
) -> list[Verdict]:
    """The joint posterior, then every modality."""
    joint = joint_collapse(n_active[ALL], n_latent, kl[ALL])
    return [joint] + [
        modality_collapse(name, n_active.get(name), kl.get(name), found) for name, found in gain.items()
    ]


def coverage_verdicts(coverage: pd.DataFrame) -> list[Verdict]:
    """Whether 90 % intervals of imputed values, recalibrated if they are, hold about 90 % of them."""
    verdicts = []
    for row in coverage[coverage["level"] == JUDGED_LEVEL].to_dict("records"):
        recalibrated = not math.isnan(row["calibrated"])
        share = row["calibrated"] if recalibrated else row["coverage"]
        kind = "recalibrated 90 %" if recalibrated else "90 %"
        found = f"{kind} intervals hold {share:.1%} of held-out values"
        is_well = abs(share - JUDGED_LEVEL) <= max(SLACK, 2.0 * row["standard_error"])
        if recalibrated:
            found += (
                f" ({row['coverage']:.1%} before), which is a test only if model.calibrate() saw other cells"
            )
        if not is_well:
            how = "too narrow" if share < JUDGED_LEVEL else "too wide"
            found += f": {how}. Set them right on other held-out cells: model.calibrate(indices=held_out)"
        verdicts.append(Verdict(f"intervals of {row['modality']} from {row['given']}", is_well, found))
    return verdicts
