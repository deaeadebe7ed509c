"""The files that the page is made of, read once when the service starts: what is not among them cannot be asked for."""

from functools import cache
from importlib.resources import files

from fedplane.status.page.listening import Answer

__all__ = ["KINDS", "pages"]

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What a browser is told of a file, by the end of its name."""


@cache
def pages() -> dict[str, Answer]:
    """Each file by its path; `/` is the page itself."""
    found = {}
    for file in (files("fedplane.status.page") / "static").iterdir():
        _, dot, end = file.name.rpartition(".")
        if dot + end in KINDS:
            found[f"/{file.name}"] = Answer(200, KINDS[dot + end], file.read_bytes())
    return found | {"/": found["/index.html"]}
