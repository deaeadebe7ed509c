"""The facts of a run as one compressed file: what is left of them when they leave the log.

A line is a fact as a CloudEvent in structured mode, in log order, and the whole is gzip: `zcat` and every CloudEvents library read it.
What the log knows beside the fact travels as attributes: the event's id and source, its place on the log, and the trace.
The place is written with leading zeros, as CloudEvents' `sequence` extension wants it: its order as text is its order.
A fact is kept as it was read: with a later version's fields, which this one does not know, since the log forgets them for good.

Both directions take one part after the other, since a run may have as many facts as the log has room for.
Where the bytes are stored is not this module's business.
Sources: CloudEvents 1.0.2 with its extensions `sequence` and `distributed tracing`; RFC 1952.
"""

import zlib
from collections.abc import Iterator

from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Recorded
from fedplane.schemas.envelope import FACT_BYTES_MAX, TRACEPARENT, Unreadable, read_structured, write_structured

__all__ = ["Packer", "Unpacker", "structured_line"]

GZIP = 31
"""zlib's word for its widest window (15) in gzip's frame (16). The frame has no time in it, so equal facts give equal bytes."""

SEQUENCE = "sequence"
SEQUENCE_DIGITS = 20
"""A place on the log has 64 bits."""

STEP_BYTES = 1_000_000
"""How much is unpacked at a time, however well it was compressed."""

LINE_BYTES_MAX = 8 * FACT_BYTES_MAX
"""JSON may write a character of one byte as six."""


class Packer:
    """Facts into a file."""

    def __init__(self) -> None:
        self.facts = 0
        self._compressor = zlib.compressobj(wbits=GZIP)
        self._packed = bytearray()

    def add(self, record: Recorded) -> None:
        """The next fact of the log. Raises Corrupt if it cannot be written."""
        self._packed += self._compressor.compress(structured_line(record) + b"\n")
        self.facts += 1

    def end(self) -> memoryview:
        """The file, when every fact was added."""
        self._packed += self._compressor.flush()
        return memoryview(self._packed)


class Unpacker:
    """A file into facts."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(wbits=GZIP)
        self._begun = b""

    def take(self, part: bytes | memoryview) -> Iterator[Recorded]:
        """The facts that are whole with the file's next part. Raises Corrupt when it has something else."""
        given: bytes | memoryview = part
        while given:
            try:
                text = self._decompressor.decompress(given, STEP_BYTES)
            except zlib.error as error:
                raise Corrupt(f"this is no archive of facts: {error}") from error
            given = self._decompressor.unconsumed_tail
            *lines, self._begun = (self._begun + text).split(b"\n")
            if len(self._begun) > LINE_BYTES_MAX:
                raise Corrupt(f"an archive of facts has no line of more than {LINE_BYTES_MAX} bytes")
            for line in lines:
                yield _record(line)

    def end(self) -> None:
        """Raises Corrupt when the file is not whole."""
        if self._begun or not self._decompressor.eof:
            raise Corrupt("the archive ends in the middle")


def structured_line(record: Recorded) -> bytes:
    """A fact as one JSON document, with what the log knows beside it. Raises Corrupt if it cannot be written."""
    more = {SEQUENCE: f"{record.sequence:0{SEQUENCE_DIGITS}}"}
    if record.id:
        more["id"] = record.id
    if record.traceparent:
        more[TRACEPARENT] = record.traceparent
    try:
        return write_structured(record.fact, record.source or "/", more, record.body)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{record.fact.subject} cannot be written as JSON: {error}") from error


def _record(line: bytes) -> Recorded:
    try:
        fact, said, body = read_structured(line)
        return Recorded(fact, int(said.get(SEQUENCE, "0")), said["id"], said.get(TRACEPARENT), said["source"], body)
    except (Unreadable, ValueError, KeyError) as error:
        raise Corrupt(f"an archive of facts has a line that is none: {error}") from error
