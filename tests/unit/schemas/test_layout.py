"""Layouts: what safetensors writes is accepted, cut and walked; what is wrong is refused with a sentence and nothing else."""

import json
import math
from itertools import pairwise
from typing import Any

import numpy
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from fedplane.schemas.layout import (
    ALIGNMENT_BYTES,
    ITEM_BYTES,
    SAID_CHARACTERS_MAX,
    BadLayout,
    Layout,
    Run,
    Tensor,
    cut,
    parse_header,
)

DTYPES = {
    "F64": numpy.float64, "I64": numpy.int64, "U64": numpy.uint64, "F32": numpy.float32, "I32": numpy.int32, "U32": numpy.uint32,
    "F16": numpy.float16, "BF16": bfloat16, "I16": numpy.int16, "U16": numpy.uint16, "I8": numpy.int8, "U8": numpy.uint8,
    "BOOL": numpy.bool_,
}  # fmt: skip

tensors_of_any_kind = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
    max_size=8,
)


def saved(tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str] | None = None) -> tuple[bytes, bytes]:
    """The header and the flat buffer that the safetensors library makes of zeros."""
    arrays: dict[str, NDArray[Any]] = {name: numpy.zeros(shape, DTYPES[dtype]) for name, (dtype, shape) in tensors.items()}
    file = safetensors.numpy.save(arrays, metadata)
    end = 8 + int.from_bytes(file[:8], "little")
    return file[:end], file[end:]


def header(document: object) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text


def entry(dtype: object = "F32", shape: object = (2,), begin: object = 0, end: object = 8) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_the_table_of_item_sizes_is_numpys() -> None:
    assert {name: numpy.dtype(dtype).itemsize for name, dtype in DTYPES.items()} == ITEM_BYTES


@given(tensors_of_any_kind)
def test_whatever_safetensors_writes_is_accepted(tensors: dict[str, tuple[str, list[int]]]) -> None:
    head, buffer = saved(tensors)

    layout = parse_header(head)

    assert {tensor.name: (tensor.dtype, list(tensor.shape)) for tensor in layout.tensors} == tensors
    assert layout.bytes == len(buffer)
    assert all(tensor.begin % ITEM_BYTES[tensor.dtype] == 0 for tensor in layout.tensors)


@given(tensors_of_any_kind, st.integers(1, 8).map(lambda items: items * ALIGNMENT_BYTES), st.lists(st.sampled_from("0ab"), unique=True))
def test_the_runs_of_the_shards_cover_the_buffer_and_cut_no_element(
    tensors: dict[str, tuple[str, list[int]]], shard_bytes: int, prefixes: list[str]
) -> None:
    layout = parse_header(saved({**tensors, "a": ("F32", [3]), "b": ("F32", [1])})[0])
    kinds = [
        (tensor.dtype, tensor.name[:1] if tensor.name[:1] in prefixes else "")
        for tensor in layout.tensors
        for _ in range(tensor.begin, tensor.end)
    ]

    covered: list[tuple[str, str]] = []
    for begin, end in cut(layout.bytes, shard_bytes):
        runs = list(layout.runs(begin, end, prefixes))
        assert all(one.end == next_.begin and (one.dtype, one.prefix) != (next_.dtype, next_.prefix) for one, next_ in pairwise(runs))
        assert all((run.end - run.begin) % ITEM_BYTES[run.dtype] == 0 < run.end - run.begin for run in runs)
        covered += [(run.dtype, run.prefix) for run in runs for _ in range(run.begin, run.end)]

    assert covered == kinds


def test_a_layout_by_example() -> None:
    head, _ = saved({"bias": ("F32", [3]), "steps": ("I64", []), "weight": ("F32", [2, 2])}, {"order": '["weight", "bias", "steps"]'})

    layout = parse_header(head)

    assert layout == Layout(
        (Tensor("steps", "I64", (), 0, 8), Tensor("bias", "F32", (3,), 8, 20), Tensor("weight", "F32", (2, 2), 20, 36)),
        ("weight", "bias", "steps"),
    )
    assert list(layout.runs(0, 36)) == [Run("I64", 0, 8), Run("F32", 8, 36)]
    assert list(layout.runs(16, 24)) == [Run("F32", 0, 8)]
    assert list(layout.runs(36, 36)) == []


def test_runs_are_cut_where_a_prefix_begins_and_ends() -> None:
    layout = parse_header(saved({"a": ("F32", [1]), "c.a": ("F32", [1]), "c.b": ("F32", [1]), "d": ("F32", [1])})[0])

    assert list(layout.runs(0, 16, ["c."])) == [Run("F32", 0, 4), Run("F32", 4, 12, "c."), Run("F32", 12, 16)]
    assert list(layout.runs(8, 16, ["c."])) == [Run("F32", 0, 4, "c."), Run("F32", 4, 8)]


def test_without_a_said_order_the_apps_order_is_that_of_the_buffer() -> None:
    assert parse_header(saved({"b": ("F32", [1]), "a": ("F32", [1])})[0]).order == ("a", "b")


@given(st.integers(0, 10_000), st.integers(1, 100).map(lambda items: items * ALIGNMENT_BYTES))
def test_pieces_are_whole_and_in_order(size: int, piece: int) -> None:
    ranges = cut(size, piece)

    assert [begin for begin, _ in ranges] == [index * piece for index in range(max(1, math.ceil(size / piece)))]
    assert [end for _, end in ranges] == [*(begin for begin, _ in ranges[1:]), size]


@pytest.mark.parametrize("piece", [0, -8, 1, 12])
def test_a_piece_that_could_cut_an_element_is_refused(piece: int) -> None:
    with pytest.raises(ValueError, match="use a multiple of 8"):
        cut(100, piece)


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "a header of 0 bytes does not state its own length"),
    "a wrong length": ((3).to_bytes(8, "little") + b"{}", "a header of 10 bytes does not state its own length"),
    "no JSON": (header(b"{"), "the header is no JSON: "),
    "no UTF-8": (header(b"\xff"), "the header is no JSON: "),
    "another encoding": (header("{}".encode("utf-16")), "the header is no JSON: "),
    "nested too deep": (header(b"[" * 100_000), "the header is no JSON: "),
    "a list": (header([]), "the header is no JSON object"),
    "no entry": (header({"a": 1}), "tensor 'a' has no dtype, shape and data_offsets"),
    "one offset": (header({"a": entry() | {"data_offsets": [0]}}), "tensor 'a' has no dtype, shape and data_offsets"),
    "an unknown dtype": (header({"a": entry("C64")}), "tensor 'a' has dtype 'C64'; known are F64, "),
    "a dtype that is a list": (header({"a": entry([])}), "tensor 'a' has dtype []; known are F64, "),
    "a shape that is no list": (header({"a": entry(shape={})}), "tensor 'a' has no list of at most 64 dimensions as its shape"),
    "too many dimensions": (header({"a": entry(shape=[1] * 65)}), "tensor 'a' has no list of at most 64 dimensions as its shape"),
    "a negative size": (header({"a": entry(shape=[-2])}), "tensor 'a' has a size or offset that is no natural number"),
    "a fractional offset": (header({"a": entry(end=8.0)}), "tensor 'a' has a size or offset that is no natural number"),
    "a shape of another size": (header({"a": entry(shape=[3])}), "tensor 'a' of shape [3] and dtype F32 cannot have 8 bytes"),
    "a gap": (header({"a": entry(begin=4, end=12)}), "tensor 'a' begins at 4, and the one before it ends at 0"),
    "an overlap": (header({"a": entry(), "b": entry(begin=4, end=12)}), "tensor 'b' begins at 4, and the one before it ends at 8"),
    "small items first": (
        header({"a": entry("U8", [1], 0, 1), "b": entry("F32", [1], 1, 5)}), "tensor 'b' begins at 1, no multiple of its item size; ",
    ),
    "half a character": (header(rb'{"\ud800": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}'), "tensor '\\ud800' has a name that "),
    "an order that is no list": (header({"a": entry(), "__metadata__": {"order": "1"}}), "the metadata's order does not name every tensor"),
    "an order that lacks one": (header({"a": entry(), "__metadata__": {"order": "[]"}}), "the metadata's order does not name every tensor"),
    "an order of numbers": (header({"1": entry(), "__metadata__": {"order": "[1]"}}), "the metadata's order does not name every tensor"),
    "an order that is no text": (header({"a": entry(), "__metadata__": {"order": 1}}), "the metadata's order is no JSON: "),
    "an order nested too deep": (header({"__metadata__": {"order": "[" * 100_000}}), "the metadata's order is no JSON: "),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_header_is_refused_with_a_sentence(bad: bytes, sentence: str) -> None:
    with pytest.raises(BadLayout) as refused:
        parse_header(bad)

    assert str(refused.value).startswith(sentence)


def test_the_sentence_stays_short_however_long_the_name() -> None:
    with pytest.raises(BadLayout) as refused:
        parse_header(header({"a" * 1_000_000: 1}))

    assert len(str(refused.value)) == SAID_CHARACTERS_MAX


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
almost_entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*ITEM_BYTES, "C64"]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "data_offsets": st.tuples(st.integers(-1, 64), st.integers(-1, 64)) | json_values,
    }
)
almost_headers = st.dictionaries(st.text(max_size=3) | st.just("__metadata__"), almost_entries | json_values, max_size=4)


@given(st.binary() | st.binary().map(header) | (json_values | almost_headers).map(header))
def test_no_header_is_worse_than_bad(bad: bytes) -> None:
    try:
        layout = parse_header(bad)
    except BadLayout:
        return

    assert [tensor.begin for tensor in layout.tensors] == [0, *(tensor.end for tensor in layout.tensors)][:-1] or layout.tensors == ()
    assert sorted(layout.order) == sorted(tensor.name for tensor in layout.tensors)
