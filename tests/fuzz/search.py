"""Fuzzing for as long as one likes: atheris changes inputs, and keeps those that reach new lines of ours. `make fuzz` starts this.

    python tests/fuzz/search.py [DECODER ...]

Each decoder is searched by a process of its own, one after the other, FUZZ_SECONDS long (60).
What is found is below .fedplane/fuzz/DECODER, and the search goes on with the next decoder; the exit code is 1 if there was anything.
A finding becomes a test by moving its file to tests/fuzz/corpus/DECODER, under a name that says what was wrong.
"""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".fedplane" / "fuzz"
NO_ATHERIS = 2

SILENCE_SECONDS = 20
"""An input that takes longer is a finding by itself. What takes more than a second of computing is one anyway (`trying`)."""

MEMORY_MB = 2_000
"""Of the whole process, with the libraries that the decoders need."""


def main() -> int:
    try:
        import atheris
    except ImportError:
        sys.stderr.write("atheris is not installed: pip install -e '.[fuzz]' (Linux, Python 3.11 to 3.13)\n")
        return NO_ATHERIS
    if sys.argv[1:2] == ["--one"]:
        _search(sys.argv[2])
    with atheris.instrument_imports(include=["targets"]):
        from targets import TARGETS
    names = sys.argv[1:] or list(TARGETS)
    if unknown := sorted({*names} - TARGETS.keys()):
        sys.stderr.write(f"there is no decoder {', '.join(unknown)}; there are {', '.join(TARGETS)}\n")
        return NO_ATHERIS
    return max([_searched(name) for name in names])


def _searched(name: str) -> int:
    """Search one decoder in a process of its own: the library ends its process when it is done."""
    ended = subprocess.run([sys.executable, __file__, "--one", name], check=False, capture_output=True, text=True)
    lines = ended.stderr.splitlines()
    found = [line for line in lines if "Wrong:" in line or "Test unit written" in line or line.startswith("SUMMARY")]
    if ended.returncode:
        sys.stdout.write("\n  ".join([f"{name}: ended with {ended.returncode}", *(found or lines[-5:])]) + "\n")
    else:
        sys.stdout.write(f"{name}: {next((line for line in reversed(lines) if line.startswith('Done ')), 'ended without a word')}\n")
    sys.stdout.flush()
    return int(bool(ended.returncode))


def _search(name: str) -> None:
    import atheris

    with atheris.instrument_imports(include=["fedplane", "tensors"]):
        from mutating import BYTES_MAX, mutated
        from seeds import seeds
        from targets import TARGETS
        from trying import tried

    target, begun, found = TARGETS[name], seeds(name), KEPT / name
    inputs = found / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(begun):
        (inputs / f"seed-{number}").write_bytes(seed)

    def changed(data: bytes, size: int, seed: int) -> bytes:
        random = Random(seed)
        made = atheris.Mutate(data, size) if random.random() < 0.3 else mutated(data, target.form, begun, random)
        return bytes(made[:size])

    arguments = [
        f"-max_total_time={os.environ.get('FUZZ_SECONDS', '60')}", f"-timeout={SILENCE_SECONDS}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={BYTES_MAX}", f"-artifact_prefix={found}/", "-print_final_stats=0", str(inputs),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *arguments], lambda data: tried(target, bytes(data)), custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
