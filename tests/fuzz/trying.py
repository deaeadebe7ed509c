"""One input for one decoder, with what it may cost: a decoder that hangs or eats the memory fails as one that crashes."""

import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

from structlog.testing import capture_logs
from targets import Target

__all__ = ["CORPUS", "Wrong", "corpus", "tried"]

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that have found something, in a folder for each decoder, and a log of a whole run, which nobody would make up."""

SECONDS_MAX, SECONDS_PER_BYTE = 1.0, 5e-5
"""Of computing, memory being traced. The slowest that is right is YAML, with 15 microseconds a byte on a busy machine.
What grows with the square of a length takes far more, of the tens of thousands of bytes that inputs have."""

PEAK_BYTES_PER_BYTE = 200
"""What Python makes of a byte of JSON: an empty list in a list is three characters, and 64 bytes."""


class Wrong(AssertionError):
    """What a decoder did that it must not."""


def tried(target: Target, data: bytes) -> bool:
    """Whether the decoder takes the input; false if it refuses as it should. Raises Wrong when it does anything else."""
    with TemporaryDirectory(prefix="fedplane-fuzz-", dir=_memory()) as directory, capture_logs():
        begin = time.thread_time()
        tracemalloc.start()
        try:
            target.decode(data, Path(directory))
            taken = True
        except target.refusals as refused:
            str(refused).encode(errors="replace")
            taken = False
        except Exception as error:
            raise Wrong(f"it may raise {_names(target)} and raised {type(error).__name__}: {str(error)[:200]}") from error
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    took, allowed = time.thread_time() - begin, target.peak_bytes + PEAK_BYTES_PER_BYTE * len(data)
    if took > SECONDS_MAX + SECONDS_PER_BYTE * len(data):
        raise Wrong(f"it computed for {took:.1f} s over {len(data)} bytes")
    if peak > allowed:
        raise Wrong(f"it needed {peak} bytes of memory for {len(data)} bytes, and may have {allowed}")
    return taken


def corpus(name: str) -> dict[str, bytes]:
    """What was kept for a decoder, by the file's name: what was wrong with the decoder then."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).glob("*"))}


def _names(target: Target) -> str:
    return " or ".join(refusal.__name__ for refusal in target.refusals) or "nothing"


def _memory() -> str | None:
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
