"""What the environment of an app is made of: what the app's own files ask for, what its framework needs, and which Python it is for.

An app says what it needs as Python projects do: `dependencies` below `[project]` in pyproject.toml, or a requirements.txt.
The app itself is not installed, since it runs from its directory, and a change of its code must not cost a new environment.
A recipe has a name that follows from its content, so apps that ask for the same share an environment.
What a recipe does not hold cannot be in its name; so a file that asks for what stands in other files is refused.
Cooking is the business of `environments`.
"""

import hashlib
import operator
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedplane.runtime.errors import BadInput

__all__ = ["Python", "Recipe", "recipe_of"]

NAME_DIGITS = 16
"""Of a SHA-256, for a name that a person can still compare: no two recipes of one machine will share 64 bits."""

FILE_BYTES_MAX = 1_000_000
"""The largest pyproject.toml or requirements.txt that is read; a list of a thousand packages with their hashes has a tenth of it."""

_ELSEWHERE = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable)\b|\.{1,2}$|\.{0,2}/|file:")
"""What begins a line of requirements.txt that asks for what another file or directory holds."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;@()]*)\)?")
"""A line that names a package and perhaps its versions; one with a marker or an address is pip's to read."""

_CLAUSE = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?")

_COMPARE: dict[str, Callable[..., bool]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter that environments are made with: its version, and all else that decides which packages fit it."""

    version: tuple[int, ...]
    build: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """An environment that an app of this framework can run in: lines for pip."""

    framework: str
    python: Python
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """The same for whoever asks for the same."""
        digest = hashlib.sha256("\n".join((repr(self.python), *self.lines)).encode()).hexdigest()
        return f"{self.framework}-{digest[:NAME_DIGITS]}"


def recipe_of(directory: Path, framework: str, wanted: tuple[str, ...], python: Python, instead: tuple[str, ...] = ()) -> Recipe:
    """The recipe for the app of the directory, whose framework needs what is `wanted`. Raises BadInput.

    An app that asks for a distribution of one of the lines `instead` gets that line in place of the first that is wanted:
    both together would be two forms of one library, and overwrite each other's files.
    """
    if not directory.is_dir():
        raise BadInput(f"there is no app in {directory}; set FEDPLANE_APP to where this machine has it")
    project = _project(directory / "pyproject.toml")
    needed = project.get("requires-python", "")
    if not _fits(python.version, str(needed)):
        have = ".".join(map(str, python.version))
        raise BadInput(
            f"{directory / 'pyproject.toml'} requires Python {needed}, and environments are made with {have} here; "
            "set FEDPLANE_ENVIRONMENTS_PYTHON to one that fits"
        )
    dependencies = project.get("dependencies")
    file = directory / ("requirements.txt" if dependencies is None else "pyproject.toml")
    lines = tuple(_lines(file)) if dependencies is None else tuple(map(str, dependencies))
    asked = {_name(line) for line in lines}
    other = next((line for line in instead if _name(line) in asked), None)
    wanted = wanted if other is None else (other, *wanted[1:])
    _insist_on_overlap(file, lines, wanted)
    return Recipe(framework, python, (*lines, *wanted))


def _project(file: Path) -> dict[str, Any]:
    try:
        project: Any = tomllib.loads(_text(file)).get("project", {})
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # the latter by brackets nested too deep
        raise BadInput(f"{file} is no TOML: {error}") from error
    if not isinstance(project, dict) or not isinstance(project.get("dependencies", []), list):
        raise BadInput(f"{file} has a [project] whose dependencies are no list; mend it")
    return project


def _lines(file: Path) -> Iterator[str]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()  # as pip does it
        if _ELSEWHERE.match(text):
            raise BadInput(f"{file}, line {number}: {text!r} depends on another file; write here what it asks for")
        if text:
            yield text


def _text(file: Path) -> str:
    """What the file holds; nothing, if it is not there."""
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise BadInput(f"{file} has more than {FILE_BYTES_MAX} bytes; no app needs as many packages")
        return content.decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error


def _insist_on_overlap(file: Path, lines: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Refuse versions of which none is wanted. pip would as well, after a download, and without naming the file."""
    ranges = {found[0]: (line, found[1]) for line in wanted if (found := _range(line))}
    for line in lines:
        name, clauses = _range(line) or ("", [])
        if name not in ranges:
            continue
        meant, others = ranges[name]
        both = clauses + others
        # Whether a comparison holds changes at the versions that are said, so it is enough to try these and those right after them.
        corners = [(0,), *(corner for clause in both for corner in (_said(clause), (*_said(clause), 1)))]
        if not any(all(_meets(corner, clause) for clause in both) for corner in corners):
            raise BadInput(f"{file} asks for {line!r}, and its framework is run with {meant}; change that line, or leave it out")


def _range(line: str) -> tuple[str, list[re.Match[str]]] | None:
    """The package's name as pip compares names, and its comparisons with versions; None if this is not all that the line says."""
    found = _REQUIREMENT.fullmatch(line.strip())
    if not found:
        return None
    clauses = [_CLAUSE.fullmatch(clause.strip()) for clause in found[2].split(",") if clause.strip()]
    known = [clause for clause in clauses if clause]
    return (_name(line), known) if len(known) == len(clauses) else None


def _name(line: str) -> str:
    """The package that the line begins with, as pip compares names; empty if it begins with something else."""
    found = _REQUIREMENT.match(line.strip())
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


def _fits(version: tuple[int, ...], needed: str) -> bool:
    """Whether a Python of this version is what `requires-python` asks for, whose versions are numbers (PEP 440)."""
    for clause in filter(None, (part.strip() for part in needed.split(","))):
        found = _CLAUSE.fullmatch(clause)
        if not found:
            raise BadInput(f"requires-python has {clause!r}, which is no comparison with a version; write it as in >=3.11,<3.13")
        if not _meets(version, found):
            return False
    return True


def _meets(version: tuple[int, ...], clause: re.Match[str]) -> bool:
    comparison, said = clause[1], _said(clause)
    if comparison == "~=":
        return version >= said and version[: len(said) - 1] == said[:-1]
    if clause[3]:  # a version with .* is about as many numbers as it has
        return _COMPARE[comparison](version[: len(said)], said)
    length = max(len(version), len(said))  # 3.11 is 3.11.0
    return _COMPARE[comparison](*(each + (0,) * (length - len(each)) for each in (version, said)))


def _said(clause: re.Match[str]) -> tuple[int, ...]:
    return tuple(map(int, clause[2].split(".")))
