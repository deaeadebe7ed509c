"""Changes as integers, so that their sum is exact, cannot overflow, and can carry masks.

With M members, a clip c and a ring of 2^b integers there are L levels on either side of zero, a step apart:

    L = floor(2^(b-2) / (M + 8 sqrt(M) s / c)),  at most 2^50        step = c / L

where s is the deviation of the noise that each member adds, if it does; then L is at most 2^39 c / s as well.
A member with the share r in [0, 1] of the largest weight sends

    q = rint(r * clip(d, -c, c) / step)   modulo 2^b      for each element's change d, computed in float64

Each |q| is at most L, so the sum of all members, and eight deviations of all their noise, is within 2^(b-2), far from half of the ring.
So a sum is read as a signed integer, and one that is farther out is no sum of what members may send.
Of what is uniform, as a wrong mask is, each element is seen with a probability of one half or more: 40 elements all but once in 10^12.
Garbage within the range is not seen, here or by anybody: hiding one member's numbers hides wrong ones too. The clip bounds what they do.

The mean change is step * sum(q) / sum(r). It differs from the mean of the clipped changes by at most

    M / sum(r) * (step / 2 + 2^-49 c)

half a step for each member's rounding, and what nine roundings of float64 make of numbers up to c.
If weights are hidden, sum(r) is a sum of integers as well, rint(r L) each, and the first term doubles.
Source of sums in a ring: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", section 4.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.privacy.keystream import BLOCK_BYTES, RINGS, Ring
from fedplane.runtime.errors import BadInput

__all__ = ["BLOCK_ELEMENTS", "Fixed"]

Vector = NDArray[np.float64]

LEVELS_MAX = 2**50
"""Float64 has 53 bits, and the arithmetic takes two of them: finer levels would be its rounding."""

NOISE_STEPS_MAX = 2**39
"""Noise of so many steps is half of what can be drawn (`discrete`). Steps that are finer would tell nothing but noise."""

LEVELS_MIN = 2**8
"""With fewer an element would have less than the eight bits that are known to train."""

STEP_MIN = 2.0**-1000
"""Floats that are much smaller have fewer bits, and their inverses are none."""

NOISE_DEVIATIONS = 8
"""A Gaussian is farther out once in 10^15 elements."""

ARITHMETIC = 2.0**-49
"""Of the clip: nine roundings of float64, 2^-53 each, of which five are of a quantized element and four of the mean."""

BLOCK_ELEMENTS = BLOCK_BYTES // 8
"""A block of float64 that stays in the cache while it is subtracted, clipped, scaled and rounded."""


@dataclass(frozen=True)
class Fixed:
    """What members of one round agree on; the same four numbers make the same arithmetic everywhere."""

    clip: float
    bits: int
    members: int
    noise_deviation: float = 0.0
    """Of the noise that each member adds to an element, in the units of the model."""

    def __post_init__(self) -> None:
        if self.bits not in RINGS:
            raise BadInput(f"a ring has {' or '.join(map(str, RINGS))} bits, and not {self.bits}")
        if not (isfinite(self.clip) and self.clip > 0):
            raise BadInput(f"a clip is a positive number, and not {self.clip}")
        if not self.noise_deviation >= 0 or self.members < 1 or not isfinite(self._noise_clips):
            raise BadInput(f"there is no noise of deviation {self.noise_deviation} from {self.members} members for a clip of {self.clip}")
        if self.levels < LEVELS_MIN:
            raise BadInput(
                f"a ring of {self.bits} bits has {self.levels} levels for changes of up to {self.clip} from {self.members} members "
                f"with noise of deviation {self.noise_deviation}, and {LEVELS_MIN} are needed; use 64 bits, less noise or fewer members"
            )
        if self.step < STEP_MIN:
            raise BadInput(f"a clip of {self.clip} is too small to be divided into {self.levels} levels")

    @cached_property
    def levels(self) -> int:
        """How many steps the clip has."""
        most = min((1 << self.bits - 2) // self._spread, LEVELS_MAX)
        if self.noise_deviation:
            most = min(most, int(Fraction(NOISE_STEPS_MAX) * Fraction(self.clip) / Fraction(self.noise_deviation)))
        return most

    @cached_property
    def step(self) -> float:
        """What an integer of one stands for."""
        return self.clip / self.levels

    @cached_property
    def reach(self) -> int:
        """The largest sum that members can make, noise included; at most a quarter of the ring."""
        return min(ceil(self.levels * self._spread), 1 << self.bits - 2)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the ring's integers."""
        return RINGS[self.bits]

    def quantized(self, update: NDArray[Any], share: float, model: NDArray[Any] | None = None) -> tuple[Ring, int]:
        """The integers for the changes, and how many of these were clipped."""
        out = np.empty(len(update), self.dtype)
        return out, self.quantize_into(out, update, share, model)

    def quantize_into(self, out: Ring, update: NDArray[Any], share: float, model: NDArray[Any] | None = None) -> int:
        """Put the integers for the changes into `out` and say how many changes were clipped.

        A change is the update less the model, if one is given; either may have any real dtype.
        """
        scale, clipped = self._checked(share) * self.levels / self.clip, 0
        block = np.empty(min(BLOCK_ELEMENTS, len(update)))
        signed = out.view(f"<i{out.itemsize}")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is refused
            for begin in range(0, len(update), BLOCK_ELEMENTS):
                part = slice(begin, begin + BLOCK_ELEMENTS)
                change = block[: len(update[part])]
                np.copyto(change, update[part], casting="unsafe")
                if model is not None:
                    np.subtract(change, model[part], out=change, dtype=np.float64, casting="unsafe")
                clipped += self._clip(change)
                change *= scale
                np.rint(change, out=change)
                np.copyto(signed[part], change, casting="unsafe")
        return clipped

    def weight(self, share: float) -> int:
        """A share as an integer of the ring, for members who hide it."""
        return round(self._checked(share) * self.levels)

    def shares(self, total: int) -> float:
        """The sum of hidden shares, from the sum of their integers modulo 2^bits."""
        if not 0 <= total <= self.members * self.levels:
            raise BadInput("the sum of weights is none of what members may send: one of them sent garbage, or a mask is still on it")
        return total / self.levels

    def in_range(self, total: Ring) -> bool:
        """Whether a sum may be one of what members may send."""
        signed = self._signed(total)
        return not len(total) or bool(signed.max() <= self.reach and signed.min() >= -self.reach)

    def mean(self, total: Ring, shares: float) -> Vector:
        """The mean change, from the sum of all members' integers and the sum of their shares."""
        if not (isfinite(shares) and shares > 0):
            raise BadInput(f"there is no mean of changes whose shares sum to {shares}; somebody must have a weight above zero")
        mean: Vector = self._signed(total) * (self.step / shares)
        return mean

    def error(self, shares: float, *, hidden: bool = False) -> float:
        """How far an element of the mean may be from the mean of the clipped changes; `hidden` if the shares are a sum of integers too."""
        return self.members / shares * (self.step * (1.0 if hidden else 0.5) + ARITHMETIC * self.clip)

    @cached_property
    def _spread(self) -> Fraction:
        """How many clips the sum of all members may be from zero, noise included."""
        return self.members + Fraction(self._noise_clips)

    @property
    def _noise_clips(self) -> float:
        """How many clips the noise of all members may be from zero."""
        return NOISE_DEVIATIONS * sqrt(self.members) * self.noise_deviation / self.clip

    def _clip(self, change: Vector) -> int:
        """Clip in place, and say how many were outside."""
        low, high = change.min(), change.max()
        if low >= -self.clip and high <= self.clip:
            return 0
        if not (isfinite(low) and isfinite(high)):
            raise BadInput("a change is not finite, so it cannot be masked; look whether the app's training diverged")
        outside = int(np.count_nonzero(np.abs(change) > self.clip))
        np.clip(change, -self.clip, self.clip, out=change)
        return outside

    def _checked(self, share: float) -> float:
        if not 0 <= share <= 1:
            raise BadInput(f"a share of the largest weight is a number from 0 to 1, and not {share}; say a larger weightMax")
        return share

    def _signed(self, total: Ring) -> NDArray[Any]:
        if total.dtype != self.dtype:
            raise BadInput(f"sums have the type {self.dtype}, and not {total.dtype}")
        return total.view(f"<i{total.itemsize}")
