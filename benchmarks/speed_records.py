"""What a part of the speed benchmark is given and writes down."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from markers import command_line
from speed_data import CellSpec

PACKAGES = ("scvi-tools", "torch", "lightning", "numpy", "scipy")


@dataclass(frozen=True)
class Sizes:
    """How large everything is; the tiny ones are for trying the script out, not for numbers."""

    step: CellSpec
    memory: CellSpec
    memory_batch_size: int
    latent: CellSpec
    scaling_peaks: tuple[CellSpec, ...]
    scaling_cells: tuple[CellSpec, ...]
    features_per_step: int
    product: int
    bandwidth_floats: int


def full_sizes(n_cells: int) -> Sizes:
    """The sizes of the benchmark; ``n_cells`` are those of the steps."""
    return Sizes(
        step=CellSpec(n_cells, 15_000, 80_000, 2_300, 3_800),
        memory=CellSpec(512, 15_000, 200_000, 2_300, 9_500),
        memory_batch_size=512,
        latent=CellSpec(10_000, 15_000, 80_000, 2_300, 3_800),
        scaling_peaks=tuple(
            CellSpec(512, 2_000, n, 300, round(0.0475 * n))
            for n in (20_000, 50_000, 100_000, 200_000, 400_000)
        ),
        scaling_cells=tuple(CellSpec(n, 2_000, 10_000, 300, 475) for n in (2_000, 10_000, 50_000)),
        features_per_step=10_000,
        product=2_048,
        bandwidth_floats=2**26,
    )


def tiny_sizes() -> Sizes:
    """Seconds in place of minutes."""
    tiny = CellSpec(300, 200, 2_000, 30, 95)
    return Sizes(
        step=tiny,
        memory=tiny,
        memory_batch_size=64,
        latent=tiny,
        scaling_peaks=tuple(CellSpec(300, 200, n, 30, round(0.0475 * n)) for n in (500, 1_000, 2_000)),
        scaling_cells=tuple(CellSpec(n, 200, 500, 30, 24) for n in (300, 600, 1_200)),
        features_per_step=500,
        product=256,
        bandwidth_floats=2**20,
    )


@dataclass(frozen=True)
class Plan:
    """What every part is given."""

    sizes: Sizes
    repeats: int
    threads: int
    batch_sizes: tuple[int, ...]
    accelerator: str


@dataclass(frozen=True)
class Measurement:
    """One variant of one method in one case, a value a round.

    Parameters
    ----------
    case
        What is compared with what: rows of one case stand in one table.
    method
        ``"MULTIVI"`` or ``"MultiVAE"``.
    variant
        What was chosen.
    unit
        Of the values.
    values
        One a round.
    cpu_values
        The same of processor time; empty where it was not taken.
    size
        What a case is ordered by, for slopes.
    note
        Why there are no values, or what to know about them.
    """

    case: str
    method: str
    variant: str
    unit: str
    values: tuple[float, ...]
    cpu_values: tuple[float, ...] = ()
    size: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Fact:
    """A number that stands beside the measurements."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class PartRecord:
    """All that a part found, and on what."""

    part: str
    data: str
    measurements: tuple[Measurement, ...]
    facts: tuple[Fact, ...]
    seconds: float
    command: str
    threads: int
    accelerator: str
    machine: str
    load_before: float
    load_after: float
    versions: tuple[str, ...]


class Sheet:
    """Collects what a part measures, round by round, and keeps the time."""

    def __init__(self, part: str, seconds: float) -> None:
        self.part = part
        self.started, self.allowed = perf_counter(), seconds
        self.load_before = os.getloadavg()[0]
        self._values: dict[tuple[str, str, str, str, float | None], list[tuple[float, float | None]]] = {}
        self._notes: list[Measurement] = []
        self.facts: list[Fact] = []

    def say(self, text: str) -> None:
        """Print progress."""
        print(f"[{self.part} {perf_counter() - self.started:4.0f} s] {text}", flush=True)

    def rounds(self, n: int, until: float = 1.0) -> Iterator[int]:
        """Rounds 0 … n − 1, fewer if the next might not end within a share of the time; at least one."""
        longest = 0.0
        for i in range(n):
            start = perf_counter()
            if i and start - self.started + longest > until * self.allowed:
                self.say(f"{i} rounds of {n}: no time for more")
                return
            yield i
            longest = max(longest, perf_counter() - start)

    def add(
        self,
        case: str,
        method: str,
        variant: str,
        unit: str,
        value: float,
        cpu: float | None = None,
        size: float | None = None,
    ) -> None:
        """Take the value of one round in."""
        self._values.setdefault((case, method, variant, unit, size), []).append((value, cpu))
        self.say(f"{case}: {method}, {variant}: {value:.4g} {unit}")

    def note(self, case: str, method: str, variant: str, text: str) -> None:
        """Write a row without values."""
        self._notes.append(Measurement(case, method, variant, "", (), note=text))
        self.say(f"{case}: {method}, {variant}: {text}")

    def fact(self, name: str, value: float, unit: str) -> None:
        """Write down a number."""
        self.facts.append(Fact(name, value, unit))
        self.say(f"{name}: {value:.4g} {unit}")

    def record(self, data: str, plan: Plan) -> PartRecord:
        """Close the sheet."""
        rows = [
            Measurement(
                case,
                method,
                variant,
                unit,
                tuple(value for value, _ in pairs),
                tuple(cpu for _, cpu in pairs if cpu is not None),
                size,
            )
            for (case, method, variant, unit, size), pairs in self._values.items()
        ]
        return PartRecord(
            part=self.part,
            data=data,
            measurements=(*rows, *self._notes),
            facts=tuple(self.facts),
            seconds=perf_counter() - self.started,
            command=command_line(),
            threads=plan.threads,
            accelerator=plan.accelerator,
            machine=_machine(),
            load_before=self.load_before,
            load_after=os.getloadavg()[0],
            versions=tuple(f"{name} {version(name)}" for name in PACKAGES),
        )


def _machine() -> str:
    names = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} processors"


def write_part(folder: Path, record: PartRecord) -> None:
    """Write under a temporary name, then rename, so that a half-written record is never read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.part}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
    temporary.replace(path)


def read_part(path: Path) -> PartRecord:
    """Read back what ``write_part`` wrote."""
    raw = json.loads(path.read_text())
    raw["measurements"] = tuple(
        Measurement(**{**row, "values": tuple(row["values"]), "cpu_values": tuple(row["cpu_values"])})
        for row in raw["measurements"]
    )
    raw["facts"] = tuple(Fact(**row) for row in raw["facts"])
    raw["versions"] = tuple(raw["versions"])
    return PartRecord(**raw)
