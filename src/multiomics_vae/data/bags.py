"""Minibatches of donors: which cells stand together when what is predicted belongs to a donor."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Bags:
    """How donors are cut into bags, none of which is torn apart.

    A bag is a random part of one donor's cells. Every pass visits every cell once, so a donor of many cells
    has several bags in a pass, drawn anew each time.

    Parameters
    ----------
    donor
        Codes of all N cells, -1 where it is not known; such cells stand together for no other reason.
    cells_per_donor
        Most cells of a bag; None keeps donors whole.
    """

    donor: np.ndarray
    cells_per_donor: int | None

    def n_bags(self, cells: np.ndarray) -> int:
        """Bags that some cells are cut into."""
        return sum(n_parts for _, n_parts in self._donors(cells))

    def pack(self, cells: np.ndarray, n_bins: int, generator: np.random.Generator | None) -> list[np.ndarray]:
        """Deal the bags of some cells to bins of about the same size.

        Parameters
        ----------
        cells
            Positions, ``(n,)``.
        n_bins
            If there are fewer bags, bins are left empty from the last one on.
        generator
            Shuffles cells and bags; None keeps their order.

        Returns
        -------
        list of ndarray
            Positions in each bin; together those of ``cells``.
        """
        bags: list[np.ndarray] = []
        for own, n_parts in self._donors(cells):
            bags += np.array_split(own if generator is None else generator.permutation(own), n_parts)
        order = range(len(bags)) if generator is None else generator.permutation(len(bags))
        loads = [(0, number) for number in range(n_bins)]
        bins: list[list[np.ndarray]] = [[] for _ in range(n_bins)]
        for bag in order:
            load, number = heapq.heappop(loads)
            bins[number].append(bags[bag])
            heapq.heappush(loads, (load + len(bags[bag]), number))
        return [np.concatenate(members) if members else cells[:0] for members in bins]

    def _donors(self, cells: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """The cells of every donor, in order, and the number of bags that they make."""
        codes = self.donor[cells]
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order])) + 1
        donors = [own for own in np.split(cells[order], starts) if len(own)]
        most = self.cells_per_donor
        return [(own, 1 if most is None else -(-len(own) // most)) for own in donors]
