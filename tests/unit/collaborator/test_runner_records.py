"""What an app's server and clients say to each other survives being a safetensors file, whatever it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal

from fedplane.collaborator.frameworks import tensors
from fedplane.collaborator.frameworks.records import Opaque, Record, packed, unpacked
from fedplane.schemas.layout import parse_header

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
METRICS = st.dictionaries(NAMES, NUMBERS | st.lists(NUMBERS, max_size=3), max_size=4)
CONFIGS = st.dictionaries(NAMES, st.booleans() | NUMBERS | NAMES | st.binary(max_size=9) | st.lists(st.binary(max_size=9), max_size=3))
ARRAYS = st.dictionaries(
    NAMES,
    st.builds(Opaque, NAMES, st.just((2, 3)), st.just("mine"), st.binary(max_size=20))
    | st.sampled_from(("f8", "f4", "i8", "u1", "?")).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))
    ),
    max_size=4,
)
RECORDS = st.lists(
    st.builds(Record, NAMES, st.just("arrays"), ARRAYS)
    | st.builds(Record, NAMES, st.just("metrics"), METRICS)
    | st.builds(Record, NAMES, st.just("config"), CONFIGS),
    max_size=4,
)


def through_a_file(path: Path, records: list[Record], *, folded: bool = False) -> list[Record]:
    tensors.write(path, *packed(records, folded=folded))
    return unpacked(tensors.read(path), tensors.metadata(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # every example overwrites the file
@given(RECORDS)
def test_records_are_read_as_they_were_written_with_every_kind_and_value(tmp_path: Path, records: list[Record]) -> None:
    read = through_a_file(tmp_path / "file.safetensors", records)

    assert [(record.name, record.kind, list(record.values)) for record in read] == [
        (record.name, record.kind, list(record.values)) for record in records
    ]
    for record, expected in zip(read, records, strict=True):
        for key, value in expected.values.items():
            if isinstance(value, np.ndarray):
                assert_array_equal(record.values[key], value, strict=True)
            else:
                assert (record.values[key], type(record.values[key])) == (value, type(value))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RECORDS)
def test_the_file_is_one_that_the_aggregator_can_cut(tmp_path: Path, records: list[Record]) -> None:
    file = tmp_path / "file.safetensors"
    through_a_file(file, records)

    written = file.read_bytes()
    header = written[: 8 + int.from_bytes(written[:8], "little")]

    assert len(header) + parse_header(header).bytes == len(written)


def test_a_metric_that_is_no_number_is_told_as_it_is(tmp_path: Path) -> None:
    read = through_a_file(tmp_path / "file.safetensors", [Record("m", "metrics", {"loss": float("nan"), "most": float("inf")})])

    assert (str(read[0].values["loss"]), read[0].values["most"]) == ("nan", float("inf"))


@pytest.mark.parametrize("loss", [0.5, 0.25])
def test_replies_that_are_folded_have_equal_headers_whatever_they_measured(tmp_path: Path, loss: float) -> None:
    reply = [Record("arrays", "arrays", {"w": np.ones(3)}), Record("metrics", "metrics", {"loss": loss, "n": 4}, weight="n")]

    _, told = packed(reply, folded=True)
    read: list[Any] = through_a_file(tmp_path / "file.safetensors", reply, folded=True)

    assert told == packed([reply[0], Record("metrics", "metrics", {"loss": 9.0, "n": 1}, weight="n")], folded=True)[1]
    assert (read[1].values, read[1].weight, read[0].values["w"].tolist()) == ({}, "n", [1, 1, 1])
