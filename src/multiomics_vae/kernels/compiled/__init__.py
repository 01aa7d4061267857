"""The loops over single entries for processors: one walk over a chunk where PyTorch needs twenty.

Between two matrix products PyTorch reads and writes a chunk once for every operation. Here everything that
happens to an entry happens at once, compiled by numba at first use and kept on disk. The values are those
of the loop in PyTorch up to rounding; that one serves float64 and other devices, and any likelihood
without a loop here.
"""
