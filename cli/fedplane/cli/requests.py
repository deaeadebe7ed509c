"""Reading what a user asks for: a YAML file with one `FederatedLearning`, the very file that `kubectl apply` takes.

Whatever is wrong with it is said here, before anything is on the bus: in which file, at which field, and what to write instead.
What only the fleet can answer (is there such data, are there enough clusters) is the scheduler's to say.
"""

import hashlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from pydantic import ValidationError

from fedplane.runtime.errors import BadInput
from fedplane.schemas.bundles import BUNDLE_BYTES_MAX, Bundle
from fedplane.schemas.resources import API_VERSION, APP_ANNOTATION, FRAMEWORKS, KIND, FederatedLearning, explain_invalid

__all__ = ["APP_FILES", "FILE_BYTES_MAX", "read"]

FILE_BYTES_MAX = 1_000_000
"""Kubernetes' own bound on an object is about that, etcd's request size."""

VALUES_MAX = 100_000
"""Of a resource, those in lists and objects included; a large one has some hundreds."""

DEPTH_MAX = 100
"""Of lists and objects within each other in a file. A resource needs ten levels."""

SHOWN_MAX = 60
"""Characters of a path that is none; it may have a million."""

APP_FILES = {
    "flower": "pyproject.toml",
    "openfl": "plan/plan.yaml",
    "other": "federate",
    "torch": "federated.py",
    "sklearn": "federated.py",
    "xgboost": "federated.py",
}
"""By which file the app of each framework is known. What else it must have is said by the runner, which reads it."""


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
    metadata = resource.metadata.model_copy(update={"uid": resource.metadata.uid or str(uuid4()), "annotations": _with_app(path, resource)})
    return resource.model_copy(update={"metadata": metadata})


class _Loader(yaml.SafeLoader):
    """Refuses what is nested too deep: the library's time grows with the square of the depth, and a file of brackets takes it minutes."""

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        self._insist_on_depth(self.flow_level)
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        self._insist_on_depth(len(self.indents))
        return bool(super().add_indent(column))

    def _insist_on_depth(self, depth: int) -> None:
        if depth >= DEPTH_MAX:
            raise yaml.scanner.ScannerError(None, None, f"more than {DEPTH_MAX} lists or objects within each other", self.get_mark())


def _document(path: Path) -> dict[str, Any]:
    try:
        documents = [document for document in yaml.load_all(_text(path), _Loader) if document is not None]  # it is a safe one
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}" if error.problem_mark else ""
        raise BadInput(f"{path}{where}: this is no YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the latter two for a date that there is not, and brackets without end
        raise BadInput(f"{path}: this is no YAML: {error}") from error
    if len(documents) != 1:
        raise BadInput(f"{path}: found {len(documents)} YAML documents; submit takes one at a time")
    if not isinstance(documents[0], dict):
        raise BadInput(f"{path}: found {type(documents[0]).__name__} where a resource with apiVersion, kind, metadata and spec is expected")
    _insist_on_size(path, documents[0])
    return documents[0]


def _insist_on_size(path: Path, document: object) -> None:
    """Refuse what aliases (*) have made large: a few lines of them can stand for more than any machine has room for."""
    values, left = 0, [document]
    while left:
        value = left.pop()
        values += 1
        if values > VALUES_MAX:
            raise BadInput(f"{path}: with its aliases (*) written out it would have more than {VALUES_MAX} values; use fewer of them")
        left.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())


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


def _with_app(path: Path, resource: FederatedLearning) -> dict[str, str]:
    annotations = resource.metadata.annotations
    if APP_ANNOTATION not in annotations:
        return annotations
    named = annotations[APP_ANNOTATION]
    said = f"{path}: the annotation {APP_ANNOTATION} is {named!r}, relative to this file"
    try:
        return {**annotations, APP_ANNOTATION: _app(path.parent, named, said, resource.spec.framework)}
    except (OSError, ValueError, RuntimeError) as error:  # too long for a path, with a null byte, or a link to itself
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise BadInput(f"{path}: the annotation {APP_ANNOTATION} begins with {named[:SHOWN_MAX]!r}, and is no path: {why}") from error


def _app(beside: Path, named: str, said: str, framework: str) -> str:
    """The app that is named, as the run is to name it."""
    bundle = Bundle.meant_by(named)
    if bundle is not None:
        return str(_as_it_is(Bundle(str((beside / bundle.path).resolve()), bundle.sha256), said, framework))
    directory = (beside / named).resolve()
    if not directory.is_dir():
        raise BadInput(f"{said}, and {directory} is no directory")
    file = APP_FILES[framework]
    if not (directory / file).is_file():
        raise BadInput(f"{said}, and {directory} has no {file}, so it is no app of the framework {framework!r}")
    return str(directory)


def _as_it_is(bundle: Bundle, said: str, framework: str) -> Bundle:
    """The bundle with the digest that it has now. The clusters read it later, when the path may have another."""
    if framework != "flower":
        raise BadInput(f"{said}, a bundle of Flower's, and spec.framework is {framework!r}; say flower")
    try:
        with Path(bundle.path).open("rb") as stream:
            content = stream.read(BUNDLE_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"{said}, and {bundle.path} cannot be read: {error.strerror}") from error
    if len(content) > BUNDLE_BYTES_MAX:
        mend = "`fedplane bundle` says which file of the app is too large"
        raise BadInput(f"{said}, and {bundle.path} has more than {BUNDLE_BYTES_MAX} bytes, which no bundle may have; {mend}")
    found = hashlib.sha256(content).hexdigest()
    if bundle.sha256 and bundle.sha256 != found:
        raise BadInput(f"{said}, and the SHA-256 of {bundle.path} is {found}")
    return bundle._replace(sha256=found)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
