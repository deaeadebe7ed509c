"""Compiling the arithmetic that touches every element, where numba is installed: `sums` and `orders` have it done here.

nogil: folds run in threads. fastmath stays off: neither the order of operations nor fused multiplication may change a result.
What is compiled is kept beside the module, or in the user's cache, so that the next process need not compile it.
A container may have neither: it writes nothing. Then each process compiles anew, a few seconds in all.
"""

from collections.abc import Callable
from typing import Any

try:
    from numba import njit
except ImportError:  # the extra `fast` is not installed
    njit = None  # type: ignore[assignment]

__all__ = ["COMPILES", "compiled"]

COMPILES = njit is not None
"""Whether there is a compiler."""


def compiled(function: Callable[..., Any]) -> Any:
    """The function, compiled when it is first called with some types; None without a compiler."""
    if njit is None:
        return None
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # there is no place to keep it
        return njit(nogil=True)(function)
