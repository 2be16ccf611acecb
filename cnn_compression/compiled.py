"""Loops over integers, compiled by numba where they are called first."""

import numba


def compiled(function):
    """Compiles a function for one thread, without Python's lock, and keeps its code on disk.

    numba writes to `NUMBA_CACHE_DIR`, beside the source or to the user's own folder, the first that
    can be written to. Where none can, each process compiles anew.
    """
    try:
        return numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # "no locator available"
        return numba.njit(function, nogil=True)


def inlined(function):
    """For what compiled functions call: its code becomes part of theirs.

    A call that is handed a tuple of arrays takes as long as a small matrix.
    """
    return numba.njit(function, nogil=True, forceinline=True)
