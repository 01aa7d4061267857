"""Keeps the state of a run while it trains: at the end of every pass, and every so many steps if asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.data.reading import PassStart
from multiomics_vae.data.share import Process
from multiomics_vae.errors import CheckpointError
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.state import TrainingState


@dataclass(frozen=True)
class Keep:
    """How a state is written, and how often.

    Parameters
    ----------
    write
        Writes it; called in the first process only.
    every_n_steps
        Write after every so many steps also; None writes at the end of passes only.
    """

    write: Callable[[TrainingState], None]
    every_n_steps: int | None = None


class StateKeeper:
    """Hears of every step and pass, and has the state written when it is time.

    Parameters
    ----------
    keep
        How and how often; None keeps nothing.
    loader
        Of the training cells, which knows where the pass under way began.
    process
        Only the first process writes. Several processes write at the end of passes only, where there are
        no sums of a pass under way, which differ from process to process.
    """

    def __init__(self, keep: Keep | None, loader: MinibatchLoader, process: Process) -> None:
        self._keep, self._loader, self._process = keep, loader, process

    def after_step(self, plan: TrainingPlan) -> None:
        """Write if a step's turn has come."""
        every = self._keep.every_n_steps if self._keep else None
        if every is not None and plan.n_steps % every == 0 and self._process.n_processes == 1:
            self._write(plan, self._loader.pass_start)

    def after_pass(self, plan: TrainingPlan) -> None:
        """Write; the next pass is a whole one and begins where the shuffling generator stands now."""
        self._loader.end_pass()
        self._write(plan, PassStart.of(self._loader.generator))

    def _write(self, plan: TrainingPlan, start: PassStart) -> None:
        if self._keep is None:
            return
        state = plan.state(start)
        if self._process.is_first:
            self._keep.write(state)


def check_processes(state: TrainingState, process: Process) -> None:
    """Refuse to go on with another number of processes: steps would no longer be the same.

    Raises
    ------
    CheckpointError
        If the number differs.
    """
    n_before = len(state.under("dropout"))
    if n_before != process.n_processes:
        raise CheckpointError(
            f"This run was begun by {n_before} processes and cannot go on with {process.n_processes}. "
            f"Start it on {n_before} devices in all, as it was begun."
        )
