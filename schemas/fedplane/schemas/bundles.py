"""How a request says that its app is one file, a Flower app bundle, and which one.

Where the app is is said by a path, which may mean another file by the time that a cluster reads it.
So whoever submits a bundle adds the digest of the file that is meant, and whoever unpacks it compares.
What a bundle holds, and how it is unpacked, is the collaborator's business.
"""

from typing import NamedTuple

__all__ = ["BUNDLE_BYTES_MAX", "Bundle"]

_SUFFIX = ".fab"
"""What the name of a bundle ends with."""

BUNDLE_BYTES_MAX = 10 * 1024 * 1024
"""Flower's own bound (FAB_MAX_SIZE in flwr.common.constant): an app is code, and data is elsewhere."""

_MARK = "#sha256="


class Bundle(NamedTuple):
    """A bundle's path, and its SHA-256 in hexadecimal if it is said."""

    path: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.path}{_MARK}{self.sha256}" if self.sha256 else self.path

    @staticmethod
    def meant_by(app: str) -> "Bundle | None":
        """What a run names as its app, if it is a bundle."""
        path, _, sha256 = app.partition(_MARK)
        return Bundle(path, sha256.lower()) if path.endswith(_SUFFIX) else None
