"""The records of the speed benchmark as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from speed_records import Measurement, PartRecord

TITLES = {
    "step": "One training step",
    "memory": "Peak memory of training, beyond the data and the fresh model",
    "latent": "Latent representation",
    "scaling": "Growth",
    "floor": "What the machine could do",
}
HEAD = ("", "", "median", "lowest to highest", "CPU", "MULTIVI / this", "note")


def table(records: Sequence[PartRecord]) -> str:
    """Everything between the markers."""
    known = list(TITLES)
    return "\n\n".join(_part(record) for record in sorted(records, key=lambda r: known.index(r.part)))


def _part(record: PartRecord) -> str:
    blocks = [
        f"### {TITLES[record.part]}",
        f"`{record.command}`",
        f"{record.data}. {record.threads} thread(s), {record.accelerator}, {record.machine}; load "
        f"{record.load_before:.1f} before and {record.load_after:.1f} after; {record.seconds:.0f} s in all; "
        f"{', '.join(record.versions)}.",
    ]
    cases = list(dict.fromkeys(row.case for row in record.measurements))
    if record.part == "scaling":
        cases_of = {growth: [c for c in cases if c.startswith(growth)] for growth in ("step", "epoch")}
        blocks += [_growth([r for r in record.measurements if r.case in own]) for own in cases_of.values()]
    else:
        blocks += [_case(case, [r for r in record.measurements if r.case == case]) for case in cases]
    if record.part == "floor":
        blocks.append(_shares(record))
    blocks.append("\n".join(f"- {fact.name}: {fact.value:.3g} {fact.unit}".rstrip() for fact in record.facts))
    return "\n\n".join(blocks)


def _case(case: str, rows: Sequence[Measurement]) -> str:
    peer = next((median(row.values) for row in rows if row.method == "MULTIVI" and row.values), None)
    lines = [HEAD]
    for row in rows:
        if not row.values:
            lines.append((row.method, row.variant, "", "", "", "", row.note))
            continue
        n = len(row.values)
        lines.append(
            (
                row.method,
                row.variant,
                _number(median(row.values), row.unit),
                _spread(row),
                _number(median(row.cpu_values), row.unit) if row.cpu_values else "",
                f"{peer / median(row.values):.1f}" if peer and row.method != "MULTIVI" else "",
                f"{n} round{'s' if n > 1 else ''}",
            )
        )
    kept = [i for i in range(len(HEAD)) if any(line[i] for line in lines[1:])]
    text = ["| " + " | ".join(line[i] for i in kept) + " |" for line in lines]
    return "\n".join([f"**{case}**", "", text[0], "|---" * len(kept) + "|", *text[1:]])


def _growth(rows: Sequence[Measurement]) -> str:
    """Sizes down, methods across."""
    columns = list(dict.fromkeys((row.method, row.variant) for row in rows))
    lines = ["| | " + " | ".join(f"{method}, {variant}" for method, variant in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for case in dict.fromkeys(row.case for row in rows):
        found = {(row.method, row.variant): row for row in rows if row.case == case}
        cells = [
            f"{_number(median(found[c].values), 's')} ({_spread(found[c])})" if c in found else ""
            for c in columns
        ]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shares(record: PartRecord) -> str:
    """How near the exact step is to the rates."""
    facts = {fact.name: fact.value for fact in record.facts}
    rate = {(r.method, r.variant): median(r.values) for r in record.measurements if r.case == "machine"}
    square = next(method for method, variant in rate if variant == "bfloat16")
    exact, low, bandwidth = rate[square, "float32"], rate[square, "bfloat16"], rate["memory", "copy or sum"]
    adam = facts["bytes that Adam moves a step"]
    lines = [
        "The floor of a step is its matrix products at the rate of square ones, plus Adam's traffic at the "
        "rate of a copy: no elementwise work, no loader.",
        "",
        "| | products, share of the float32 rate | Adam, share of the bandwidth | floor, float32 | "
        "floor, bfloat16 | step / floor, float32 |",
        "|---|---|---|---|---|---|",
    ]
    for row in record.measurements:
        if row.case == "machine":
            continue
        seconds = median(row.values)
        gflop = facts[f"matrix products of a step, {row.variant}"]
        floors = [gflop / r + adam / bandwidth for r in (exact, low)]
        lines.append(
            f"| {row.method}, {row.variant} | {gflop / seconds / exact:.0%} | "
            f"{adam / seconds / bandwidth:.0%} | {_number(floors[0], 's')} | {_number(floors[1], 's')} | "
            f"{seconds / floors[0]:.1f} |"
        )
    return "\n".join(lines)


def _spread(row: Measurement) -> str:
    if len(row.values) == 1:
        return "one round"
    return f"{_number(min(row.values), row.unit)} to {_number(max(row.values), row.unit)}"


def _number(value: float, unit: str) -> str:
    if unit == "s" and value < 2:
        value, unit = 1e3 * value, "ms"
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
