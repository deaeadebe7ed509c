"""Reading what a user asks for: a YAML file with one `FederatedLearning`, the very file that `kubectl apply` takes.

Whatever is wrong with it is said here, before anything is on the bus: in which file, at which field, and what to write instead.
What only the fleet can answer (is there such data, are there enough clusters) is the scheduler's to say.
"""

from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from pydantic import ValidationError

from fedplane.runtime.errors import BadInput
from fedplane.schemas.resources import API_VERSION, APP_ANNOTATION, FRAMEWORKS, KIND, FederatedLearning, explain_invalid

__all__ = ["FILE_BYTES_MAX", "read"]

FILE_BYTES_MAX = 1_000_000
"""Kubernetes' own bound on an object is about that, etcd's request size."""


def read(path: Path) -> FederatedLearning:
    """The resource in the file, with a uid of its own if it has none, and with its app's directory made absolute.

    Raises BadInput that says what to change.
    """
    document = _document(path)
    found = document.get("apiVersion"), document.get("kind")
    if found != (API_VERSION, KIND):
        raise BadInput(
            f"{path}: found apiVersion {found[0] or '(none)'} and kind {found[1] or '(none)'}; a run needs {API_VERSION} and {KIND}"
        )
    try:
        resource = FederatedLearning.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise BadInput(f"{path}: this is no valid {KIND}\n" + _indented(explain_invalid(error))) from error
    if resource.spec.framework not in FRAMEWORKS:
        raise BadInput(f"{path}: spec.framework is {resource.spec.framework!r}; known are {', '.join(FRAMEWORKS)}")
    metadata = resource.metadata.model_copy(
        update={"uid": resource.metadata.uid or str(uuid4()), "annotations": _with_app(path, resource.metadata.annotations)}
    )
    return resource.model_copy(update={"metadata": metadata})


def _document(path: Path) -> dict[str, Any]:
    try:
        documents = [document for document in yaml.safe_load_all(_text(path)) if document is not None]
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}" if error.problem_mark else ""
        raise BadInput(f"{path}{where}: this is no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: this is no YAML: {error}") from error
    if len(documents) != 1:
        raise BadInput(f"{path}: found {len(documents)} YAML documents; submit takes one at a time")
    if not isinstance(documents[0], dict):
        raise BadInput(f"{path}: found {type(documents[0]).__name__} where a resource with apiVersion, kind, metadata and spec is expected")
    return documents[0]


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise BadInput(f"{path}: the file has {size} bytes, and a resource may have {FILE_BYTES_MAX}; is it the right file?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"{path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: this is no UTF-8 text") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error


def _with_app(path: Path, annotations: dict[str, str]) -> dict[str, str]:
    if APP_ANNOTATION not in annotations:
        return annotations
    named = annotations[APP_ANNOTATION]
    directory = (path.parent / named).resolve()
    said = f"{path}: the annotation {APP_ANNOTATION} is {named!r}, relative to this file"
    if not directory.is_dir():
        raise BadInput(f"{said}, and {directory} is no directory")
    if not (directory / "pyproject.toml").is_file():
        raise BadInput(f"{said}, and {directory} has no pyproject.toml, so it is no app")
    return {**annotations, APP_ANNOTATION: str(directory)}


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
