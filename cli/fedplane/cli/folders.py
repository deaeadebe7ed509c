"""A folder in which files appear whole or not at all: of this machine, or in a bucket.

On a disk, a file is written beside its name and renamed when it is whole. In a bucket it is uploaded in parts, which become it at the end.
So whoever is killed in the middle leaves what was there before: beside it a hidden file, or parts that nobody sees and a bucket's
own rule can clear away.

Buckets are reached through fsspec, which many know and which is loaded only for them: it and what it needs are an extra of their own.
Credentials and endpoint come from where Amazon's tools look for them, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
Files of this machine do not go through it, since it may write them on another disk first, and then they appear bit by bit.

Everything here blocks. Who has other things to do calls it in a thread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from fedplane.runtime.errors import BadInput, Unavailable

__all__ = ["BLOCK_BYTES", "BUCKETS", "DiskFolder", "Folder", "Upload", "locate"]

BLOCK_BYTES = 8_000_000
"""How much is read or uploaded at a time. A bucket takes 10,000 parts, each of at least 5 MiB: models of up to 80 GB."""

UPLOADS_AT_ONCE_MAX = 2
"""How many parts of a file are on their way to a bucket at a time; each is in memory."""

BUCKETS = {"s3": "s3fs"}
"""The schemes of addresses that are buckets, and the library that fsspec needs for each."""


_CREDENTIALS = "its server and keys are looked for where Amazon's tools do: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
"""What has to be set right is the first thing to look at when a bucket does not answer."""


class Upload(Protocol):
    """A file that is being written, and not there yet."""

    def write(self, data: memoryview | bytes) -> None:
        """The next bytes."""
        ...

    def commit(self) -> None:
        """The file is whole: from now on it is there, in place of the old one."""
        ...

    def discard(self) -> None:
        """Forget it. The old one stays. Never fails."""
        ...


class Folder(Protocol):
    """Files by name. Everything raises BadInput for what a person has to change, and Unavailable for what may pass."""

    where: str

    def begin(self, name: str) -> Upload:
        """Begin to write a file."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """A file's bytes, block by block. Raises FileNotFoundError at the first of them."""
        ...


def locate(address: str) -> tuple[Folder, str]:
    """The folder that an address means, and the file's name in it, empty if it means the folder.

    As upstream has it: what ends in a name with a dot in it is a file, anything else a folder. A hidden name alone makes no file.
    """
    scheme, separator, path = address.removeprefix("file://").rpartition("://")
    if separator and scheme not in BUCKETS:
        raise BadInput(f"{address} is no place that a model can be in; name a path, or an address that begins with {_schemes()}")
    bucket = path.partition("/")[0]
    if separator and not bucket:
        raise BadInput(f"{address} names no bucket")
    named = PurePosixPath(path)
    is_file = bool(named.suffix) and not path.endswith("/") and (not separator or path != bucket)
    folder, name = (str(named.parent), named.name) if is_file else (str(named), "")
    return (_Bucket(scheme, folder) if separator else DiskFolder(Path(folder))), name


class DiskFolder:
    """A folder of this machine. It is made when a file is written into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)

    def begin(self, name: str) -> Upload:
        """See `Folder`."""
        return _DiskUpload(self.path / name)

    def read(self, name: str) -> Iterator[bytes]:
        """See `Folder`."""
        with _disk_troubles(self.path / name), (self.path / name).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block


class _DiskUpload:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        with _disk_troubles(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")

    def write(self, data: memoryview | bytes) -> None:
        with _disk_troubles(self._path):
            self._file.write(data)

    def commit(self) -> None:
        with _disk_troubles(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._path)

    def discard(self) -> None:
        try:
            self._file.close()
            self._partial.unlink(missing_ok=True)
        except OSError:
            pass  # the disk is full or gone: what is left is a hidden file, and why it failed is being said already


@contextmanager
def _disk_troubles(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise BadInput(f"{path} cannot be used: {error.strerror}") from error
    except OSError as error:
        raise Unavailable(f"{path} could not be read or written: {error.strerror}") from error


class _Bucket:
    """A folder of a bucket."""

    def __init__(self, scheme: str, folder: str) -> None:
        self.where = f"{scheme}://{folder}"
        self._folder = folder
        missing = next((library for library in ("fsspec", BUCKETS[scheme]) if find_spec(library) is None), None)
        if missing:
            raise Unavailable(f"{self.where} is in a bucket, and {missing} is not installed: pip install 'fedplane[{scheme}]'")
        import fsspec  # noqa: PLC0415 -- see above

        self._files: Any = fsspec.filesystem(scheme, max_concurrency=UPLOADS_AT_ONCE_MAX, use_listings_cache=False)

    def begin(self, name: str) -> Upload:
        with _bucket_troubles(self.where):
            return _BucketUpload(self._files.open(f"{self._folder}/{name}", "wb", autocommit=False, block_size=BLOCK_BYTES), self.where)

    def read(self, name: str) -> Iterator[bytes]:
        with (
            _bucket_troubles(self.where, reading=True),
            self._files.open(f"{self._folder}/{name}", "rb", cache_type="none") as file,
        ):
            while block := file.read(BLOCK_BYTES):
                yield block


class _BucketUpload:
    def __init__(self, file: Any, where: str) -> None:
        self._file = file
        self._where = where

    def write(self, data: memoryview | bytes) -> None:
        with _bucket_troubles(self._where):
            self._file.write(data)

    def commit(self) -> None:
        with _bucket_troubles(self._where):
            self._file.close()
            self._file.commit()

    def discard(self) -> None:
        try:
            self._file.discard()
        except Exception:  # noqa: BLE001 -- of whatever library; the parts stay, unseen, and why it failed is being said already
            return
        finally:
            self._file.closed = True  # or it would upload what it still holds when it is collected


@contextmanager
def _bucket_troubles(where: str, *, reading: bool = False) -> Iterator[None]:
    """The door for a bucket's errors: which classes they are of depends on the library that fsspec found."""
    try:
        yield
    except PermissionError as error:
        raise BadInput(f"{where} is not for us to use: {error}") from error
    except FileNotFoundError as error:
        if reading:
            raise
        raise BadInput(f"{where} cannot be used: {error}; is there such a bucket?") from error
    except (BadInput, GeneratorExit):
        raise
    except Exception as error:  # see above
        raise Unavailable(f"{where} could not be read or written: {error}; {_CREDENTIALS}") from error


def _schemes() -> str:
    return ", ".join(f"{scheme}://" for scheme in BUCKETS)
