"""One shard of an update as masked integers: what is in it once the masks are off, for every type and wherever a shard is cut."""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from masking_story import NOW, chance, paired, participant, terms

from fedplane.privacy import masking
from fedplane.privacy.discrete import noise
from fedplane.privacy.elements import elements_of
from fedplane.privacy.fixed import Fixed
from fedplane.privacy.keystream import TALLY_SHARD, Mask, apply_all
from fedplane.privacy.masking import Masking, Noise, fixed_of, masked, shortened, tally
from fedplane.privacy.participant import Withdrawn
from fedplane.runtime.errors import BadInput
from fedplane.schemas.layout import Layout, Tensor, cut

KINDS: tuple[tuple[str, Any], ...] = (
    ("F64", np.float64), ("I64", np.int64), ("F32", np.float32), ("BF16", ml_dtypes.bfloat16), ("F16", np.float16), ("BOOL", np.bool_),
)  # fmt: skip
MASKS = (Mask(chance("one", 32), subtract=False), Mask(chance("two", 32), subtract=True))
FIXED = Fixed(8.0, 64, 3)


def built(value: Callable[[str, int], Any], elements: int = 6) -> tuple[Layout, memoryview, list[Any]]:
    """A buffer with a tensor of each kind, whose elements are made by the function of the kind and the place."""
    tensors, arrays, at = [], [], 0
    for name, dtype in KINDS:
        arrays.append(np.array([value(name, place) for place in range(elements)]).astype(dtype))
        tensors.append(Tensor(name.lower(), name, (elements,), at, at + arrays[-1].nbytes))
        at = tensors[-1].end
    return Layout(tuple(tensors), ()), memoryview(b"".join(array.tobytes() for array in arrays)), arrays


LAYOUT, MODEL, _ = built(lambda name, place: place % 2 if name == "BOOL" else place)
_, UPDATE, _ = built(
    lambda name, place: (place + 1) % 2 if name == "BOOL" else place + (place - 2) / 4 if "F" in name else place - place // 3
)


def changes() -> np.ndarray[Any, Any]:
    floats = [(place - 2) / 4 for place in range(6)]
    return np.array([*floats, *[-(place // 3) for place in range(6)], *floats * 3, *[1, -1] * 3], float)


def unmasked(data: memoryview, shard: int, fixed: Fixed = FIXED) -> np.ndarray[Any, Any]:
    total = np.frombuffer(bytearray(data), fixed.dtype)
    apply_all(total, [Mask(mask.key, not mask.subtract) for mask in MASKS], shard)
    return fixed.mean(total, 1.0)


@pytest.mark.parametrize("shard_bytes", [8, 56, 4_096])
@pytest.mark.parametrize("bits", [32, 64])
def test_under_its_masks_a_shard_has_the_change_of_every_number_whatever_its_type(bits: int, shard_bytes: int) -> None:
    fixed = Fixed(8.0, bits, 3)
    spans = cut(LAYOUT.bytes, shard_bytes)

    made = [masked(LAYOUT, span, shard, UPDATE, MODEL, Masking(fixed, 1.0, MASKS)) for shard, span in enumerate(spans)]

    counts = [sum(map(elements_of, LAYOUT.runs(*span))) for span in spans]
    assert [len(each.data) * 8 // bits for each in made] == counts
    got = np.concatenate([unmasked(each.data, shard, fixed) for shard, each in enumerate(made)])
    assert np.abs(got - changes()).max() <= fixed.step / 2
    assert sum(each.clipped for each in made) == 0


def test_a_cluster_that_counts_for_less_sends_a_part_of_its_change() -> None:
    made = masked(LAYOUT, (0, LAYOUT.bytes), 0, UPDATE, MODEL, Masking(FIXED, 0.25, MASKS))

    assert np.abs(unmasked(made.data, 0) - changes() / 4).max() <= FIXED.step / 2


def test_a_change_beyond_the_clip_is_clipped_and_counted() -> None:
    narrow = Fixed(0.5, 64, 3)

    made = masked(LAYOUT, (0, LAYOUT.bytes), 0, UPDATE, MODEL, Masking(narrow, 1.0, MASKS))

    assert made.clipped == int((np.abs(changes()) > 0.5).sum()) > 0
    assert np.abs(unmasked(made.data, 0, narrow) - np.clip(changes(), -0.5, 0.5)).max() <= narrow.step / 2


def test_with_noise_floats_are_shortened_and_noised_and_all_else_stays_what_it_was() -> None:
    how = Masking(FIXED, 1.0, MASKS, Noise(chance("noise", 32), 1e9, 0.5))

    made = masked(LAYOUT, (0, LAYOUT.bytes), 7, UPDATE, MODEL, how)

    floats = np.array([name not in ("I64", "BOOL") for name, _ in KINDS for _ in range(6)])
    drawn = noise(len(floats), 1e9, chance("noise", 32), 7) * FIXED.step
    assert np.abs(unmasked(made.data, 7) - np.where(floats, changes() * 0.5 + drawn, 0.0)).max() <= FIXED.step


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("deviation", [0.3, 1e-3])
def test_noise_can_be_drawn_in_a_ring_of_any_width_and_is_as_strong_as_agreed(bits: int, deviation: float) -> None:
    fixed = Fixed(1.0, bits, 4, deviation)

    drawn = noise(40_000, deviation / fixed.step, chance("noise", 32), 0) * fixed.step

    assert float(drawn.std()) == pytest.approx(deviation, rel=0.02)


def test_noise_and_masks_do_not_depend_on_how_a_shard_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    how = Masking(FIXED, 1.0, MASKS, Noise(chance("noise", 32), 1e9, 0.5))
    whole = bytes(masked(LAYOUT, (0, LAYOUT.bytes), 7, UPDATE, MODEL, how).data)
    monkeypatch.setattr(masking, "BLOCK_ELEMENTS", 5)

    assert bytes(masked(LAYOUT, (0, LAYOUT.bytes), 7, UPDATE, MODEL, how).data) == whole


def test_a_change_is_shortened_to_the_norm_that_is_agreed_and_a_short_one_is_not() -> None:
    length = math.sqrt(4 * sum(((place - 2) / 4) ** 2 for place in range(6)))

    assert shortened(LAYOUT, UPDATE, MODEL, 1.0) == pytest.approx(1 / length)
    assert shortened(LAYOUT, UPDATE, MODEL, 100.0) == shortened(LAYOUT, MODEL, MODEL, 1.0) == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_change_that_is_not_finite_is_refused_before_anything_is_sent(value: float) -> None:
    _, update, _ = built(lambda name, place: value if name == "F32" and place == 3 else 0)

    for refused in (
        lambda: masked(LAYOUT, (0, LAYOUT.bytes), 0, update, MODEL, Masking(FIXED, 1.0, MASKS)),
        lambda: shortened(LAYOUT, update, MODEL, 1.0),
    ):
        with pytest.raises(Withdrawn) as withdrawn:
            refused()
        assert withdrawn.value.reason == "update-not-finite"


def test_a_hidden_weight_is_one_masked_integer_of_a_shard_of_its_own() -> None:
    (told,) = tally(Masking(FIXED, 0.25, MASKS), 0.25)

    total = np.array([told], FIXED.dtype)
    apply_all(total, [Mask(mask.key, not mask.subtract) for mask in MASKS], TALLY_SHARD)
    assert FIXED.shares(int(total[0])) == pytest.approx(0.25, abs=1 / FIXED.levels)


def test_a_shard_of_nothing_is_nothing() -> None:
    assert bytes(masked(Layout((), ()), (0, 0), 0, memoryview(b""), memoryview(b""), Masking(FIXED, 1.0, MASKS)).data) == b""


def test_the_arithmetic_is_that_of_the_members_who_are_paired_and_refused_if_the_bits_have_no_room() -> None:
    fact = paired([participant(name) for name in "abcd"], at=NOW)

    assert fixed_of(terms(deviation=0.5, norm_max=1.0), fact) == Fixed(8.0, 32, 4, 0.5)
    with pytest.raises(BadInput, match="use 64 bits"):
        fixed_of(terms(deviation=1e9, norm_max=1.0), fact)
