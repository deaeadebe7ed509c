"""Models as the runner reads and writes them, judged by safetensors' own library and by the layout that the other roles read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ml_dtypes import bfloat16
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fedplane.collaborator.frameworks import tensors
from fedplane.collaborator.frameworks.answers import BFLOAT16
from fedplane.schemas.layout import parse_header

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
MODELS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    max_size=6,
)


def assert_same(expected: dict[str, NDArray[Any]], actual: dict[str, NDArray[Any]]) -> None:
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in expected.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in actual.items()
    }
    for name, tensor in expected.items():
        assert_array_equal(actual[name], tensor, strict=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # every example overwrites the file
@given(MODELS)
def test_a_model_is_read_as_it_was_written_by_us_and_by_safetensors(tmp_path: Path, model: dict[str, NDArray[Any]]) -> None:
    file = tmp_path / "model.safetensors"
    tensors.write(file, model)

    read = tensors.read(file)

    assert list(read) == list(model)
    assert_same(model, read)
    assert_same(model, load_file(file))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MODELS)
def test_a_written_model_has_a_layout_that_the_other_roles_accept(tmp_path: Path, model: dict[str, NDArray[Any]]) -> None:
    file = tmp_path / "model.safetensors"
    tensors.write(file, model)
    content = file.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")

    layout = parse_header(content[:begin])

    assert (layout.order, layout.bytes) == (tuple(model), len(content) - begin)
    assert begin % 8 == 0


def test_a_model_written_by_safetensors_is_read_in_buffer_order(tmp_path: Path) -> None:
    model = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(7, np.int64), "c": np.array([], np.float16)}
    save_file(model, tmp_path / "model.safetensors")

    read = tensors.read(tmp_path / "model.safetensors")

    assert list(read) == ["a", "b", "c"]
    assert_same(model, read)


def test_arrays_that_are_big_endian_or_not_contiguous_are_written_by_value(tmp_path: Path) -> None:
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors.write(tmp_path / "model.safetensors", {"big": grid.astype(">f4"), "turned": grid.T, "strided": grid[:, ::2]})

    read = tensors.read(tmp_path / "model.safetensors")

    assert_same({"big": grid, "turned": np.ascontiguousarray(grid.T), "strided": np.ascontiguousarray(grid[:, ::2])}, read)


def test_a_read_model_is_mapped_and_cannot_be_changed(tmp_path: Path) -> None:
    tensors.write(tmp_path / "model.safetensors", {"a": np.zeros(3)})

    read = tensors.read(tmp_path / "model.safetensors")

    with pytest.raises(ValueError, match="read-only"):
        read["a"][0] = 1


def test_a_dtype_that_the_format_lacks_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(tensors.BadTensors, match="tensor 'z' of dtype complex128 cannot be stored; the dtypes are float64"):
        tensors.write(tmp_path / "model.safetensors", {"z": np.zeros(1, complex)})


def test_bfloat16_is_read_and_written_bit_by_bit(tmp_path: Path) -> None:
    save_file({"w": np.array([[1.5, -2, 0.25]], bfloat16), "b": np.zeros(1, np.uint16)}, tmp_path / "model.safetensors")

    read = tensors.read(tmp_path / "model.safetensors")
    tensors.write(tmp_path / "again.safetensors", read)

    assert (read["w"].dtype, read["b"].dtype) == (BFLOAT16, np.uint16)
    assert_same({"w": np.array([[1.5, -2, 0.25]], bfloat16), "b": np.zeros(1, np.uint16)}, load_file(tmp_path / "again.safetensors"))


def test_a_dtype_that_nobody_here_knows_is_refused_by_name(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")

    with pytest.raises(tensors.BadTensors, match="tensor 'w' has dtype F8_E4M3, which cannot be read here"):
        tensors.read(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"not a model at all", (9).to_bytes(8, "little") + b"{"], ids=["empty", "text", "cut off"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(tensors.BadTensors, match=r"model\.safetensors is no safetensors file"):
        tensors.read(tmp_path / "model.safetensors")
