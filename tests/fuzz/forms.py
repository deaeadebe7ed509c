"""How bytes are made up that a decoder reads, so that they can be changed in the middle and still be nearly valid.

A flipped bit in a zip or below a signature is refused at the door, and what lies behind it is never tried.
So a form takes bytes apart into a JSON document, with what is before and after it, and puts them together again: lengths and sums fit.
"""

import gzip
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["FACT", "GZIP", "JSON", "LINES", "MARK", "RAW", "SAFETENSORS", "TEXT", "ZIP", "Form", "Parts", "entry"]

CONTENT = ".info/CONTENT"
MARK = "@raw "

RAW = {
    "deep": "[" * 2_000 + "]" * 2_000,
    "deeper": '{"a":' * 60_000 + "0" + "}" * 60_000,
    "digits": "9" * 4_000,
    "more digits": "9" * 6_000,
    "tiny": "1e-999999999",
    "huge": "1e999999999",
    "half": '"\\ud800"',
}
"""What Python's JSON writes only if it is told so: a text of this mark and name stands for it."""


class Parts(NamedTuple):
    """What is before a document, the document, and what is after it."""

    head: bytes
    document: Any
    tail: bytes


class Form(NamedTuple):
    """`parse` raises ValueError for bytes that are not made up so; `write` is its inverse."""

    parse: Callable[[bytes], Parts]
    write: Callable[[bytes, Any, bytes], bytes]


def entry(dtype: str, size: int, begin: int) -> dict[str, Any]:
    """A row of a safetensors header, whose items have one byte."""
    return {"dtype": dtype, "shape": [size], "data_offsets": [begin, begin + size]}


def _dumped(document: Any) -> bytes:
    text = json.dumps(document)
    for name, raw in RAW.items():
        text = text.replace(f'"{MARK}{name}"', raw)
    return text.encode()


def _parse_fact(data: bytes) -> Parts:
    head, newline, body = data.partition(b"\n")
    return Parts(head + newline, json.loads(body), b"")


def _parse_safetensors(data: bytes) -> Parts:
    end = 8 + int.from_bytes(data[:8], "little")
    return Parts(b"", json.loads(data[8:end]), data[end:])


def _write_safetensors(head: bytes, document: Any, tail: bytes) -> bytes:
    text = _dumped(document)
    return len(text).to_bytes(8, "little") + text + tail


def _parse_gzip(data: bytes) -> Parts:
    try:
        lines = gzip.decompress(data).splitlines()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(str(error)) from error
    return Parts(b"", [json.loads(line) for line in lines], b"")


def _write_gzip(head: bytes, document: Any, tail: bytes) -> bytes:
    return gzip.compress(_write_lines(head, document, tail), 1, mtime=0)


def _write_lines(head: bytes, document: Any, tail: bytes) -> bytes:
    return b"".join(_dumped(line) + b"\n" for line in (document if isinstance(document, list) else [document]))


def _parse_zip(data: bytes) -> Parts:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return Parts(b"", {name: archive.read(name).decode("latin-1") for name in archive.namelist() if name != CONTENT}, b"")
    except Exception as error:  # the library has no error of its own for each of its ways to fail
        raise ValueError(str(error)) from error


def _write_zip(head: bytes, document: Any, tail: bytes) -> bytes:
    """With the list of what is in it, so that what was changed is what is listed."""
    named = document if isinstance(document, dict) else {"pyproject.toml": document}
    contents = {str(name): _dumped(text) if not isinstance(text, str) else text.encode(errors="replace") for name, text in named.items()}
    listed = "\n".join(f"{name},{hashlib.sha256(content).hexdigest()},{8 * len(content)}" for name, content in contents.items())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**contents, CONTENT: listed.encode(errors="replace")}.items():
            archive.writestr(zipfile.ZipInfo(name.encode(errors="replace").decode() or "empty"), content)
    return made.getvalue()


def _parse_text(data: bytes) -> Parts:
    raise ValueError("text has no document")


JSON = Form(lambda data: Parts(b"", json.loads(data), b""), lambda head, document, tail: _dumped(document))
FACT = Form(_parse_fact, lambda head, document, tail: head + _dumped(document))
SAFETENSORS = Form(_parse_safetensors, _write_safetensors)
LINES = Form(lambda data: Parts(b"", [json.loads(line) for line in data.splitlines()], b""), _write_lines)
GZIP = Form(_parse_gzip, _write_gzip)
ZIP = Form(_parse_zip, _write_zip)
TEXT = Form(_parse_text, lambda head, document, tail: head + tail)
