"""One input from another: bytes changed at random, or a document changed where it hurts.

Pure: chance is an argument. So hypothesis finds the same input again by its seed, and atheris by its own.
"""

import json
from random import Random
from typing import Any

from forms import MARK, RAW, Form

__all__ = ["BYTES_MAX", "mutated"]

BYTES_MAX = 200_000
"""No input is longer: a decoder that is slow by the square of a length shows it far below that."""

STEPS_MAX = 4
TAKEN_APART = 0.7
"""How often a step changes what bytes are made of, and not the bytes."""

DIGGING = 0.75
"""How often a step goes further down into a document; the rest changes what it has come to."""

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**18, 10**400, 0.1, -0.0, 1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"),
    "", " ", "\x00", "\n", "a" * 1_000, "é\u2028\U0001f600", "..", "../../x", "/x", "*", ">", "a.b", "A", "-", "NaN", "-0", "1e400",
    "2026-01-02T03:04:05Z", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00-14:00", "2026-01-02", "24:00",
    [], {}, [[]], [None], {"": {}}, {"a": {"a": {"a": []}}}, [0] * 100, *(MARK + name for name in RAW),
)  # fmt: skip
"""What is hardly ever where it is put."""

BITS = (
    b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc3\x28", b"{", b"}", b"[", b"]", b'"', b"\\", b"\r\n", b"9" * 40, b"-",
    b"[" * 3_000,
)  # fmt: skip


def mutated(data: bytes, form: Form, others: tuple[bytes, ...], random: Random) -> bytes:
    """The input, changed in a few places. `others` are inputs of the same decoder, to take parts from."""
    for _ in range(random.randint(1, STEPS_MAX)):
        made = _remade(data, form, random) if random.random() < TAKEN_APART else None
        data = (_scrambled(data, others, random) if made is None else made)[:BYTES_MAX]
    return data


def _remade(data: bytes, form: Form, random: Random) -> bytes | None:
    try:
        head, document, tail = form.parse(data)
        return _twice(form.write(head, _changed(document, random), tail), random)
    except (ValueError, RecursionError):  # there is no document in it, or none any more
        return None


def _changed(document: Any, random: Random) -> Any:
    if isinstance(document, dict) and document and random.random() < DIGGING:
        name = random.choice(sorted(document))
        return {**document, name: _changed(document[name], random)}
    if isinstance(document, list) and document and random.random() < DIGGING:
        at = random.randrange(len(document))
        return [*document[:at], _changed(document[at], random), *document[at + 1 :]]
    match random.randrange(5):
        case 0 if isinstance(document, dict) and document:
            gone = random.choice(sorted(document))
            return {name: value for name, value in document.items() if name != gone}
        case 1 if isinstance(document, dict):
            return {**document, str(random.choice(ODD)): random.choice(ODD)}
        case 0 if isinstance(document, list) and document:
            return document[: random.randrange(len(document))]
        case 1 if isinstance(document, list) and document:
            return document * random.choice((2, 3, 100))
        case 2 if isinstance(document, str):
            return document + str(random.choice(ODD))
        case 3 if isinstance(document, int):
            return document + random.choice((-1, 1, 8, 10**18))
    return random.choice(ODD)


def _twice(data: bytes, random: Random) -> bytes:
    """Now and then with a name that is in an object twice, which no dict can say."""
    places = [at for at, byte in enumerate(data[:2_000]) if byte == ord("{")] if random.random() < 0.05 else []
    if not places:
        return data
    at = random.choice(places) + 1
    name = data[at:].partition(b":")[0].strip()
    try:
        return data[:at] + name + b":" + json.dumps(random.choice(ODD)).encode() + b"," + data[at:] if json.loads(name) else data
    except (ValueError, RecursionError):  # it is no name
        return data


def _scrambled(data: bytes, others: tuple[bytes, ...], random: Random) -> bytes:
    at = random.randint(0, len(data))
    to = min(len(data), at + random.choice((1, 2, 8, 64, 1_000)))
    match random.randrange(6):
        case 0 if data[at:]:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:to] + data[at:to] * random.choice((1, 2, 50)) + data[to:]
        case 3 if others:
            other = random.choice(others)
            begin = random.randint(0, len(other))
            return data[:at] + other[begin : begin + 200] + data[to:]
        case 4:
            return data[:at]
    return data[:at] + random.choice(BITS) + data[at:]
