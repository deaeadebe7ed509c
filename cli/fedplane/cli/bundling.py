"""`fedplane bundle`: a Flower app's directory as one file, byte for byte the one that Flower writes.

A run names its app by a path, and a directory may change between the request and the last round. A bundle has a digest.
`flwr build` makes one, but it is in the app's environment, which a machine that only submits runs need not have.
The bytes are Flower's own, so that an app has one digest, whoever built it.
Which files go in, in which order, and how they are listed, follows flwr 1.41 and has to be compared with every release; a test does.

An app that could not be loaded from the bundle is refused here, where its author is.
Whether its code runs is not judged, nor what Flower asks besides of apps that are published.
"""

import ast
import hashlib
import os
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer
from pathspec import PathSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.schemas.bundles import BUNDLE_BYTES_MAX, Bundle

__all__ = ["bundle", "bundled"]

PROJECT = "pyproject.toml"

NAME_CHARACTERS_MAX = 32
"""Of an app's name: Flower's bound (MAX_NAME_LENGTH)."""

FOLDERS_MAX = 10
"""How deep a file may be: Flower's bound (MAX_DIR_DEPTH)."""

FILES_SEEN_MAX = 100_000
"""How many files are looked at, wanted or not: an app beside its data may have thousands, and a whole disk was not meant."""

_SOURCES = ("**/*.py", "**/*.toml", "**/*.md", "**/*.yaml", "**/*.yml", "**/*.json", "**/*.jsonl")

_PUBLISHED = (*_SOURCES, "/.gitignore", "**/.editorconfig", "/LICENSE", "/LICENSE.md")
_UNPUBLISHED = (".flwr/**", ".venv/**", "**/__pycache__/**")
"""What is the app's at all (APP_PUBLISH_*_PATTERNS): patterns of files to take, and of those to leave, which the app cannot change."""

_TAKEN = (*_SOURCES, "/LICENSE")
_LEFT = (
    ".flwr/**", "**/__pycache__/**", PROJECT, "**/*_test.py", "**/test_*.py",
    "build/**", "eggs/**", ".eggs/**", "lib/**", "lib64/**", "parts/**", "*.egg",
    ".venv/**", "env/**", "venv/**", "ENV/**", "env.bak/**", "venv.bak/**",
)  # fmt: skip
"""What of that goes into a bundle (FAB_*_PATTERNS). The project's file is written anew, so it is not copied."""

_UNENTERED = (".flwr", ".venv")
"""Folders of which nothing is taken: an environment has tens of thousands of files, and nobody should wait for them."""

_CONTENT = ".info/CONTENT"

_DATE = (2024, 10, 1, 0, 0, 0)
"""Of every file in a bundle (FAB_DATE)."""


def bundle(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="A Flower app: a directory with a pyproject.toml.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .fab file to write; an old one is replaced.")],
) -> None:
    """Make one file of a Flower app, as `flwr build` does.

    What goes to standard output is how a run names it, the file with its digest: fedplane.io/app: app.fab#sha256=...

    Example: fedplane bundle my-app -o my-app.fab
    """
    if Bundle.meant_by(str(output)) is None:
        raise BadInput(f"{output}: a bundle is known by the end of its name; write {output.with_suffix('.fab')}")
    content = bundled(directory)
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(output)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}") from error
    except OSError as error:
        raise Unavailable(f"{output} could not be written: {error.strerror}; free space, or name a file on another disk by -o") from error
    finally:
        part.unlink(missing_ok=True)
    typer.echo(Bundle(str(output), hashlib.sha256(content).hexdigest()))
    typer.echo(f"{output}: {len(content)} bytes, the app of {directory}", err=True)


def bundled(directory: Path) -> bytes:
    """The app of the directory as a bundle. Raises BadInput that says what to change in it."""
    if not (directory / PROJECT).is_file():
        raise BadInput(f"{directory} has no {PROJECT}; name the directory of a Flower app, which has one")
    try:
        files = _published(directory)
        project = _project(directory / PROJECT)
        names = _chosen(directory / PROJECT, project["tool"]["flwr"]["app"], files)
        size = sum(files[name].stat().st_size for name in names)
        if size > BUNDLE_BYTES_MAX:
            largest = max(names, key=lambda name: (files[name].stat().st_size, name))
            raise BadInput(
                f"{directory}: the app's files have {size} bytes, and a bundle may have {BUNDLE_BYTES_MAX}; "
                f"the largest is {largest}: put data elsewhere, or name it in fab-exclude below [tool.flwr.app]"
            )
        contents = {name: files[name].read_bytes() for name in names}
    except OSError as error:
        raise BadInput(f"{error.filename or directory} cannot be read: {error.strerror}") from error
    for component in ("serverapp", "clientapp"):
        _judge_component(directory / PROJECT, component, project["tool"]["flwr"]["app"]["components"].get(component), contents)
    project["tool"]["flwr"].pop("federations", None)  # the author's own, and Flower leaves them out
    made = _zipped({PROJECT: tomli_w.dumps(project).encode(), **contents})
    if len(made) > BUNDLE_BYTES_MAX:
        raise BadInput(
            f"{directory}: the bundle would have {len(made)} bytes, and may have {BUNDLE_BYTES_MAX}; leave files out by fab-exclude"
        )
    return made


def _published(directory: Path) -> dict[str, Path]:
    """The app's files by their paths in it. Links are none, as what they lead to is not the app's."""
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(directory, followlinks=False):
        if Path(folder) == directory:
            folders[:] = [name for name in folders if name not in _UNENTERED]
        paths = [Path(folder) / name for name in names]
        found.update({path.relative_to(directory).as_posix(): path for path in paths if not path.is_symlink()})
        if len(found) > FILES_SEEN_MAX:
            raise BadInput(f"{directory} has more than {FILES_SEEN_MAX} files; put what is not the app elsewhere")
    try:
        ignored = found[".gitignore"].read_text(encoding="utf-8").splitlines() if ".gitignore" in found else []
    except UnicodeDecodeError:  # Flower takes such a file for an empty one, and it is the author's editor's business
        ignored = []
    lines = [line.strip() for line in ignored if line.strip() and not line.strip().startswith("#")]
    kept = _spec(_PUBLISHED).match_files(found)
    for patterns in (_UNPUBLISHED, lines):
        kept = _spec(patterns, str(directory / ".gitignore")).match_files(kept, negate=True)
    files = {name: found[name] for name in map(str, kept)}
    for name in sorted(files):
        if name.count("/") > FOLDERS_MAX:
            raise BadInput(f"{files[name]} is {name.count('/')} folders deep, and may be {FOLDERS_MAX}; move it, or name it in .gitignore")
    if PROJECT not in files:
        raise BadInput(f"{directory / PROJECT} is a link, or left out by .gitignore; a bundle needs it")
    return files


def _project(file: Path) -> dict[str, Any]:
    """What the file says, which has at least what a bundle cannot do without."""
    try:
        document: dict[str, Any] = tomllib.loads(file.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} is no TOML: {error}") from error
    for path in ("project.name", "project.version", "tool.flwr.app.publisher", "tool.flwr.app.components"):
        value: Any = document
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, dict if path.endswith("components") else str):
            table, _, key = path.rpartition(".")
            raise BadInput(f"{file} says no {key} below [{table}]; a bundle needs it")
    name = document["project"]["name"]
    if not (name[:1].isalpha() and name.replace("-", "").isalnum() and len(name) <= NAME_CHARACTERS_MAX):
        said = f"begin the name with a letter, and use letters, digits and hyphens, {NAME_CHARACTERS_MAX} at most"
        raise BadInput(f"{file} calls the app {name!r}, which Flower does not take; {said}")
    return document


def _chosen(file: Path, app: Mapping[str, Any], files: Mapping[str, Path]) -> list[str]:
    """Which of the files go into the bundle, in order."""
    chosen: Iterable[str] = files
    for key, takes in (("fab-include", True), ("fab-exclude", False)):
        if key not in app:
            continue
        patterns = app[key]
        if not isinstance(patterns, list) or not patterns or not all(isinstance(each, str) and each.strip() for each in patterns):
            raise BadInput(f"{file} has a {key} below [tool.flwr.app] that is no list of patterns; write some, or leave it out")
        for pattern in patterns:
            if not any(_spec([pattern], f"{file}, {key}").match_files(files)):
                raise BadInput(f"{file}: the pattern {pattern!r} in {key} fits no file; mend it, or take it out")
        chosen = list(map(str, _spec(patterns).match_files(chosen, negate=not takes)))
    taken, left = _spec(_TAKEN), _spec(_LEFT)
    odd = sorted(name for name in chosen if not taken.match_file(name))
    if odd and ("fab-include" in app or "fab-exclude" in app):
        raise BadInput(f"{file}: a bundle takes no {', '.join(odd)}; name that in fab-exclude, or have fab-include not fit it")
    return sorted(name for name in chosen if taken.match_file(name) and not left.match_file(name))


def _spec(patterns: Iterable[str], where: str = "") -> PathSpec[GitIgnoreSpecPattern]:
    """What the patterns fit, which are written as in .gitignore. Raises BadInput that begins with where they stand."""
    try:
        return PathSpec.from_lines(GitIgnoreSpecPattern, patterns)
    except ValueError as error:
        raise BadInput(f"{where} has a pattern that is none: {error}; write it as git does") from error


def _judge_component(file: Path, component: str, reference: Any, contents: Mapping[str, bytes]) -> None:
    """Refuse a component that cannot be loaded from these files, as far as that shows without running them."""
    module, _, attribute = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if not module or not attribute:
        raise BadInput(f'{file} has no {component} below [tool.flwr.app.components]; write {component} = "module:attribute"')
    place = module.replace(".", "/")
    source = next((name for name in (f"{place}.py", f"{place}/__init__.py") if name in contents), None)
    if source is None:
        raise BadInput(
            f"{file}: the {component} is {reference!r}, and the bundle would have no {place}.py; mend the name, or what is left out"
        )
    try:
        tree = ast.parse(contents[source])
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{file.parent / source} is no Python: {error}") from error
    names = _names(tree)
    if attribute.partition(".")[0] not in names and "*" not in names:
        raise BadInput(f"{file}: the {component} is {reference!r}, and {file.parent / source} has no {attribute}; mend one of the two")


def _names(tree: ast.Module) -> set[str]:
    """What is bound anywhere in the module, which is more than it has; "*" if it takes over another one's names."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
    return names


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    """The files in a zip, and a list of them. Nothing is compressed, so the bytes depend on no library's version."""
    listed = [f"{name},{hashlib.sha256(content).hexdigest()},{8 * len(content)}" for name, content in contents.items()]
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**contents, _CONTENT: "\n".join(listed).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    return buffer.getvalue()
