"""Programs of any language: how they are started, and what becomes of what they leave. Here they are scripts of a shell."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from fedplane.collaborator.frameworks import Unanswerable
from fedplane.collaborator.frameworks.other import Program, open_app

NAN = {"F64": "000000000000f87f", "F32": "0000c07f", "F16": "007e", "BF16": "c07f"}
LARGEST = {"F64": "ffffffffffffef7f", "F32": "ffff7f7f", "F16": "ff7b", "BF16": "7f7f"}
ONE = {"F64": "000000000000f03f", "F32": "0000803f", "F16": "003c", "BF16": "803f", "I64": "ff" * 8}


def model(directory: Path, name: str, *tensors: tuple[str, str, str], **metadata: str) -> bytes:
    """A file with these scalars: name, dtype and bytes in hexadecimal."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    content = b""
    for key, dtype, digits in tensors:
        header[key] = {"dtype": dtype, "shape": [], "data_offsets": [len(content), len(content) + len(digits) // 2]}
        content += bytes.fromhex(digits)
    text = json.dumps(header).encode()
    (directory / name).write_bytes(struct.pack("<Q", len(text)) + text + content)
    return (directory / name).read_bytes()


def asked(directory: Path, task: str = "train") -> Path:
    (directory / "invitation.json").write_text(json.dumps({"task": task, "data": "/data"}))
    return directory


def program(directory: Path, *lines: str) -> Program:
    script = directory / "federate"
    script.write_text("\n".join(["#!/bin/sh", "set -e", *lines]))
    script.chmod(0o755)
    found = open_app(directory)
    assert isinstance(found, Program)
    return Program(script, upstream=directory / "upstream.json")


def measured(directory: Path) -> Any:
    return json.loads((directory / "metrics.json").read_text())


def refusal(of: Program, directory: Path) -> tuple[str, str]:
    with pytest.raises(Unanswerable) as refused:
        of.work(directory)
    return refused.value.reason, str(refused.value)


def test_a_program_is_told_its_task_its_directory_and_where_its_data_is(tmp_path: Path) -> None:
    told = program(tmp_path, 'echo "$@" >> told', 'echo \'{"weight": 4}\' > "$2/metrics.json"')
    told.work(asked(tmp_path, "evaluate"))
    told.work(asked(tmp_path, "evaluate"), data="/mnt/data")

    assert (tmp_path / "told").read_text() == f"evaluate {tmp_path} /data\nevaluate {tmp_path} /mnt/data\n"
    assert measured(tmp_path) == {"weight": 4, "metrics": {}, "configuration": {}}


def test_an_update_in_another_order_gets_the_layout_of_the_model(tmp_path: Path) -> None:
    given = model(tmp_path, "model.safetensors", ("a", "F32", ONE["F32"]), ("b", "F32", "00000000"), order='["b", "a"]')
    model(tmp_path, "left", ("b", "F32", ONE["F32"]), ("a", "F32", "00000000"))
    program(tmp_path, 'cp left "$2/update.safetensors"', 'echo \'{"weight": 4, "metrics": {"loss": 1}}\' > "$2/metrics.json"').work(
        asked(tmp_path)
    )

    begin = len(given) - 8
    assert (tmp_path / "update.safetensors").read_bytes() == given[:begin] + bytes.fromhex("00000000" + ONE["F32"])
    assert measured(tmp_path) == {"weight": 4, "metrics": {"loss": 1}, "configuration": {}}


def test_an_update_that_is_appended_keeps_the_layout_that_it_has(tmp_path: Path) -> None:
    model(tmp_path, "model.safetensors", ("a", "U8", "01"))
    left = model(tmp_path, "left", ("b", "U8", "02"))
    asked(tmp_path)
    (tmp_path / "invitation.json").write_text(json.dumps({**json.loads((tmp_path / "invitation.json").read_text()), "appends": True}))
    program(tmp_path, 'cp left "$2/update.safetensors"', 'echo \'{"weight": 4}\' > "$2/metrics.json"').work(tmp_path)

    assert (tmp_path / "update.safetensors").read_bytes() == left


@pytest.mark.parametrize("place", ["metric.json", "upstream.json"])
def test_metrics_may_be_left_as_upstreams_sidecar_reads_them(tmp_path: Path, place: str) -> None:
    text = json.dumps({"metrics": {"num-examples": "40", "loss": "0.5", "accuracy": 1}, "labels": {"round": 3}})
    program(tmp_path, f"echo '{text}' > {place}").work(asked(tmp_path, "evaluate"))

    assert measured(tmp_path) == {"weight": 40, "metrics": {"loss": 0.5, "accuracy": 1}, "configuration": {}}


def test_what_an_earlier_question_left_is_no_answer_to_this_one(tmp_path: Path) -> None:
    (tmp_path / "upstream.json").write_text('{"metrics": {"num-examples": 40}}')

    assert refusal(program(tmp_path, "true"), asked(tmp_path, "evaluate")) == (
        "no-weight",
        'the program left no metrics.json; write {"weight": EXAMPLES, "metrics": {NAME: NUMBER}} there',
    )


@pytest.mark.parametrize("dtype", NAN)
@pytest.mark.parametrize("at", [0, 1])
def test_a_number_that_is_none_is_found_in_every_kind_of_floats(tmp_path: Path, dtype: str, at: int) -> None:
    numbers = [("a", dtype, ONE[dtype]), ("b", dtype, ONE[dtype])]
    model(tmp_path, "model.safetensors", *numbers)
    numbers[at] = (numbers[at][0], dtype, NAN[dtype])
    model(tmp_path, "left", *numbers)
    left = program(tmp_path, 'cp left "$2/update.safetensors"', 'echo \'{"weight": 4}\' > "$2/metrics.json"')

    reason, message = refusal(left, asked(tmp_path))

    assert (reason, message.split(" has ")[0]) == ("not-finite", f"tensor {'ab'[at]!r}")


@pytest.mark.parametrize("dtype", LARGEST)
def test_the_largest_number_of_a_kind_is_one(tmp_path: Path, dtype: str) -> None:
    model(tmp_path, "left", ("a", dtype, LARGEST[dtype]))
    program(tmp_path, 'cp left "$2/update.safetensors"').work(asked(tmp_path, "initialize"))

    assert measured(tmp_path) == {"weight": 1, "metrics": {}, "configuration": {}}
    assert (tmp_path / "update.safetensors").read_bytes() == (tmp_path / "left").read_bytes()


MEASURED = 'echo \'{"weight": 4}\' > "$2/metrics.json"'
WRONG = {
    "it fails": (["exit 3"], "app-raised", "the program federate exited with code 3; what it printed says why"),
    "it is killed": (["kill -SEGV $$"], "crashed", "the program federate was killed by SIGSEGV"),
    "no update": ([MEASURED], "no-update", "the program ended without leaving update.safetensors in the directory that it was given"),
    "an empty update": ([MEASURED, ': > "$2/update.safetensors"'], "bad-update", "is no safetensors file: JSONDecodeError"),
    "a cut update": (
        [MEASURED, 'head -c 70 "$2/model.safetensors" > "$2/update.safetensors"'],
        "bad-update",
        "update.safetensors is no safetensors file: ValueError: its tensors are not as long as its header says",
    ),
    "another tensor": (
        [MEASURED, 'sed s/F32/I32/ "$2/model.safetensors" > "$2/update.safetensors"'],
        "wrong-layout",
        "the app must return the tensors that it was sent: 'a' is I32[] and was F32[]",
    ),
    "no examples": (
        ['echo \'{"weight": 0}\' > "$2/metrics.json"'],
        "no-weight",
        "the number of examples must be positive, and the app said num-examples = 0",
    ),
    "a list of metrics": (['echo \'{"metrics": []}\' > "$2/metrics.json"'], "app-raised", "must be an object such as"),
    "no JSON": (['echo weight > "$2/metrics.json"'], "app-raised", "metrics.json is not JSON of at most 500000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "reason", "said"), WRONG.values(), ids=WRONG)
def test_a_program_that_goes_wrong_is_told_what_it_did(tmp_path: Path, lines: list[str], reason: str, said: str) -> None:
    model(tmp_path, "model.safetensors", ("a", "F32", ONE["F32"]))

    refused = refusal(program(tmp_path, *lines), asked(tmp_path))

    assert refused[0] == reason
    assert said in refused[1]


def test_a_program_that_cannot_be_started_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "federate").write_text("#!/nowhere\n")
    with pytest.raises(Unanswerable, match=f"{tmp_path}/federate cannot be executed; say: chmod"):
        open_app(tmp_path)
    (tmp_path / "federate").chmod(0o755)

    assert refusal(open_app(tmp_path), asked(tmp_path))[0] == "load-failed"
