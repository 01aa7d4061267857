"""What is predicted from what."""

from __future__ import annotations

from dataclasses import dataclass

DENOISE = "denoise"


@dataclass(frozen=True)
class Direction:
    """A target, and what is read to predict it.

    Parameters
    ----------
    modality
        Position of the target.
    given
        Positions of the modalities conditioned on, rising; None for denoising: all, the target included,
        at the target's own depth.

    Examples
    --------
    >>> Direction(0, (1, 2)).name
    '0/1+2'
    """

    modality: int
    given: tuple[int, ...] | None

    @property
    def name(self) -> str:
        """``"0/1+2"`` (0 from 1 and 2) or ``"0/denoise"``."""
        given = DENOISE if self.given is None else "+".join(map(str, self.given))
        return f"{self.modality}/{given}"

    @classmethod
    def from_name(cls, name: str) -> Direction:
        """The inverse of `name`."""
        modality, _, given = name.partition("/")
        return cls(int(modality), None if given == DENOISE else tuple(map(int, given.split("+"))))
