"""One shard of an update as integers that say nothing: changes of the model, made fixed-point, with noise and masks on them.

An element of the update becomes

    d = update - model          in float64, shortened with all others if there is noise, then clipped
    q = rint(d * share / step)  modulo 2**bits, share being how much the cluster counts (`fixed`)
    q + noise + masks           modulo 2**bits

Integers and booleans of a model are changes like any other, and are rounded when the mean is known; with noise, which is for floats, they
stay what they were. What is not finite cannot be an integer, and nobody else could find out whose it was: so it is refused here.

Everything is done block by block, in memory that a processor's cache holds: an update is never in memory, a masked shard is.
Which shard is sent where and when, and where the random bytes come from, is the caller's business.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.privacy import discrete
from fedplane.privacy.elements import DTYPES, FLOATS, elements_of, numbers_of
from fedplane.privacy.fixed import Fixed
from fedplane.privacy.keystream import TALLY_SHARD, Mask, Ring, apply_all
from fedplane.privacy.participant import Withdrawn
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Paired
from fedplane.schemas.layout import Layout, Run
from fedplane.schemas.privacy_terms import MaskingTerms

__all__ = ["Masked", "Masking", "Noise", "fixed_of", "masked", "shortened", "tally"]

BLOCK_ELEMENTS = discrete.BLOCK_ELEMENTS
"""Worked on together: as many as noise is drawn of at once. As float64 they take 512 KiB, a second-level cache."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The cluster's own noise: the key of its stream, its deviation in steps, and by how much the change is shortened before."""

    key: bytes = field(repr=False)
    deviation_steps: float
    factor: float


@dataclass(frozen=True, slots=True)
class Masking:
    """How a cluster's numbers become masked integers in one round. `share` is how much the cluster counts, from 0 to 1."""

    fixed: Fixed
    share: float
    masks: Sequence[Mask]
    noise: Noise | None = None


@dataclass(frozen=True, slots=True)
class Masked:
    """A shard's masked integers as bytes, and how many changes were larger than the clip."""

    data: memoryview
    clipped: int


def fixed_of(terms: MaskingTerms, paired: Paired) -> Fixed:
    """The arithmetic of a round, the same for all. Raises BadInput if the bits have no room for so many members."""
    return Fixed(terms.clip, terms.bits, len(paired.members), terms.deviation or 0.0)


def masked(layout: Layout, span: tuple[int, int], shard: int, update: memoryview, model: memoryview, how: Masking) -> Masked:
    """The bytes [begin, end) of an update's flat buffer, masked; the model's buffer is that which it was trained from.

    Raises Withdrawn if a change is not finite.
    """
    update, model = update[slice(*span)], model[slice(*span)]
    out = np.zeros(sum(elements_of(run) for run in layout.runs(*span)), how.fixed.dtype)
    clipped = at = 0
    for part in _parts(layout.runs(*span)):
        block = out[at : at + elements_of(part)]
        if how.noise is None:
            clipped += _quantize(block, how, numbers_of(update, part), numbers_of(model, part))
        elif part.dtype in FLOATS:
            clipped += _quantize(block, how, _change(part, update, model) * how.noise.factor)
            block += discrete.noise(len(block), how.noise.deviation_steps, how.noise.key, shard, at).astype(block.dtype)
        apply_all(block, how.masks, shard, at)
        at += len(block)
    return Masked(out.view(np.uint8).data, clipped)


def _quantize(into: Ring, how: Masking, update: NDArray[Any], model: NDArray[Any] | None = None) -> int:
    try:
        return how.fixed.quantize_into(into, update, how.share, model)
    except BadInput as error:
        raise Withdrawn("update-not-finite", f"the update cannot be masked: {error}") from error


def tally(how: Masking, counts: float) -> tuple[int, ...]:
    """How much the cluster counts, from 0 to 1, as one masked integer: for rounds in which nobody is to know it."""
    out = np.array([how.fixed.weight(counts)], how.fixed.dtype)
    apply_all(out, how.masks, TALLY_SHARD, 0)
    return tuple(int(value) for value in out)


def shortened(layout: Layout, update: memoryview, model: memoryview, norm_max: float) -> float:
    """By what the change is to be multiplied so that its floats are no longer than that (L2 norm). Raises Withdrawn as `masked` does."""
    square = 0.0
    for part in _parts(layout.runs(0, layout.bytes)):
        if part.dtype in FLOATS:
            change = _change(part, update, model)
            with np.errstate(over="ignore", invalid="ignore"):
                square += float(change @ change)
    if not np.isfinite(square):
        raise Withdrawn(
            "update-not-finite", "the update's change has no length: it is not finite; look whether the app's training diverged"
        )
    return min(1.0, norm_max / float(np.sqrt(square))) if square else 1.0


def _change(part: Run, update: memoryview, model: memoryview) -> NDArray[np.float64]:
    change: NDArray[np.float64] = numbers_of(update, part).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is refused
        change -= numbers_of(model, part).astype(np.float64)
    return change


def _parts(runs: Iterator[Run]) -> Iterator[Run]:
    """The runs in parts that end where blocks of noise do, which are counted through the whole."""
    at = 0
    for run in runs:
        size, begin = DTYPES[run.dtype].itemsize, run.begin
        while begin < run.end:
            end = min(begin + size * (BLOCK_ELEMENTS - at % BLOCK_ELEMENTS), run.end)
            yield replace(run, begin=begin, end=end)
            at += (end - begin) // size
            begin = end
