"""An optimiser's walk over the memory of a wide matrix, which other threads begin at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from multiomics_vae.kernels.compiled.blocks import Begun, Blocks


class Walk:
    """A walk in pieces, under way from the start; whoever needs its outcome must `finish` it.

    An optimiser waits for memory, and a step has stretches in which one thread works alone: the backward pass
    through narrow layers, the trainer's loop, the first small operations of the next step. A walk that begins
    when its gradient has come fills them. What becomes of the weights does not depend on when it ends.

    Parameters
    ----------
    n_pieces
        In how many pieces the matrix is walked over.
    piece
        Walks over piece i; returns Σ gradient² of it.
    after
        Called with Σ gradient² of all, in the thread that finishes the walk.

    Examples
    --------
    >>> Walk(3, lambda i: i**2, after=print).finish()
    5.0
    """

    def __init__(self, n_pieces: int, piece: Callable[[int], float], after: Callable[[float], None]) -> None:
        squares = np.zeros(n_pieces)

        def work(_: int, i: int) -> None:
            squares[i] = piece(i)

        self._squares, self._after = squares, after
        with Blocks() as blocks:
            self._begun: Begun | None = blocks.begin(n_pieces, work)

    def finish(self) -> None:
        """Walk on until the end; nothing happens if that was reached before."""
        begun, self._begun = self._begun, None  # what it has read and written is let go of
        if begun is not None:
            begun.finish()
            self._after(float(self._squares.sum()))
