"""The command line: ``multiomics-vae fit cells.h5mu --out run/``, ``multiomics-vae info run/``.

Heavy imports stand inside the commands, so that ``--help`` answers at once.
"""

from multiomics_vae.cli.app import main

__all__ = ["main"]
