"""Flower app bundles: a run's app as one file, as `fedplane bundle` and `flwr build` write it, unpacked for as long as the run lasts.

A bundle is a zip of the app's files with a list of them, `.info/CONTENT`: in each line a path, its SHA-256, and its size in bits.
It may come from anywhere, so nothing of it is written before all of it is judged.
It may hold what is in its list and nothing else, no path that leaves its directory, and no more than an app can need.
What is in the app, and whether it can be run, is the runner's business; its environment is that of any other app.
"""

import hashlib
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from fedplane.runtime.errors import BadInput
from fedplane.schemas.bundles import BUNDLE_BYTES_MAX, Bundle

__all__ = ["unpacked"]

UNPACKED_BYTES_MAX = 100_000_000
"""What a bundle's files may have together: ten times what the bundle may have. Text is compressed to a third."""

FILES_MAX = 10_000
"""How many files a bundle may have; a large app has some hundreds."""

NAME_BYTES_MAX, PATH_BYTES_MAX = 255, 1_000
"""Of a file or folder, and of a path in the app: what file systems have room for, and a quarter of what Linux takes as a path."""

CONTENT = ".info/CONTENT"
PROJECT = "pyproject.toml"


def unpacked(bundle: Bundle, into: Path) -> Path:
    """The directory, with the bundle's app in it. Raises BadInput if the bundle is not what it should be."""
    if into.is_dir():  # it was judged then, and is complete: see below
        return into
    try:
        _judge_file(bundle)
        with zipfile.ZipFile(bundle.path) as archive:
            files = _judged(archive)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, _Refused) as error:
        # What the library raises for what is no zip, cut off, encrypted, compressed in a way that it does not know, or badly named.
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise BadInput(f"the bundle {bundle.path} cannot be used: {why}; make it again with `fedplane bundle`") from error
    half = into.with_name(into.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    for name, content in files.items():
        (half / name).parent.mkdir(parents=True, exist_ok=True)
        (half / name).write_bytes(content)
    half.rename(into)  # all of it or nothing, should this process be killed
    return into


class _Refused(Exception):
    """What is wrong with a bundle."""


def _judge_file(bundle: Bundle) -> None:
    size = Path(bundle.path).stat().st_size
    if size > BUNDLE_BYTES_MAX:
        raise _Refused(f"it has {size} bytes, and a bundle may have {BUNDLE_BYTES_MAX}")
    found = hashlib.sha256(Path(bundle.path).read_bytes()).hexdigest()
    if bundle.sha256 and found != bundle.sha256:
        raise _Refused(f"the run was submitted with the one of SHA-256 {bundle.sha256}, and this one has {found}")


def _judged(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """The files by path. Raises _Refused."""
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    total = sum(entry.file_size for entry in entries)
    if len(entries) > FILES_MAX or total > UNPACKED_BYTES_MAX:
        raise _Refused(
            f"it holds {len(entries)} files of {total} bytes together, and a bundle may hold {FILES_MAX} files of {UNPACKED_BYTES_MAX}"
        )
    times = Counter(str(PurePosixPath(entry.filename)) for entry in entries)
    for entry in entries:
        _judge_entry(entry, times)
    files = {entry.filename: archive.read(entry) for entry in entries}
    listed = _listed(files.pop(CONTENT, b""))
    if PROJECT not in files:
        raise _Refused(f"it has no {PROJECT}")
    for name in sorted(files.keys() | listed.keys()):
        if name not in listed:
            raise _Refused(f"{name!r} is not in its list, {CONTENT}")
        if name not in files:
            raise _Refused(f"{name!r} is in its list, {CONTENT}, and not in it")
        if hashlib.sha256(files[name]).hexdigest() != listed[name]:
            raise _Refused(f"{name!r} is not what its list, {CONTENT}, says")
    return files


def _judge_entry(entry: zipfile.ZipInfo, times: Counter[str]) -> None:
    """What can be said of an entry before it is read; `times` is how often each path is in the bundle. Raises _Refused."""
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
        raise _Refused(f"the path {entry.filename!r} leads out of it")
    if not path.parts or len(str(path).encode()) > PATH_BYTES_MAX or any(len(part.encode()) > NAME_BYTES_MAX for part in path.parts):
        raise _Refused(f"{entry.filename[:NAME_BYTES_MAX]!r} cannot be the path of a file: it is empty, or longer than that may be")
    if any(str(folder) in times for folder in path.parents):
        raise _Refused(f"{entry.filename!r} is in a folder that is a file as well")
    if entry.compress_size > BUNDLE_BYTES_MAX:  # as much room would be made before it is read
        raise _Refused(f"{entry.filename!r} says that it takes {entry.compress_size} bytes of it, more than a bundle has")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others make as much room as the entry asks for
        raise _Refused(f"{entry.filename!r} is compressed in another way than Flower does")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise _Refused(f"{entry.filename!r} is a link")
    if times[str(path)] > 1:
        raise _Refused(f"{entry.filename!r} is in it more than once")


def _listed(content: bytes) -> dict[str, str]:
    """Each path's SHA-256. The size beside it says nothing that this does not."""
    lines = content.decode(errors="replace").splitlines()
    return {path: digest for path, digest, _ in (line.rsplit(",", 2) for line in lines if line.count(",") >= 2)}
