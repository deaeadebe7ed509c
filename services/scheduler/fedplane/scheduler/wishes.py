"""What an object on the hub asks for: a `FederatedLearning` as the API has it, read as the run that it means.

An API server holds what its schema lets through, and that may be upstream's schema or an older one of ours.
So an object may ask for what cannot be a run. It is a wish all the same: its run is submitted with its metadata alone and the reason,
and fails, so that the reason reaches its user the way every other failure does.

The run's id is made of the object's name and uid. An object that is deleted and made anew has another uid, hence another run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fedplane.runtime.errors import BadInput
from fedplane.runtime.objects import Object
from fedplane.scheduler.excerpts import excerpt
from fedplane.schemas.envelope import FACT_BYTES_MAX
from fedplane.schemas.names import run_id
from fedplane.schemas.resources import API_VERSION, APP_ANNOTATION, KIND, FederatedLearning, Metadata, explain_invalid
from fedplane.schemas.views import Phase

__all__ = ["FINALIZER", "REQUEST_BYTES_MAX", "Wish", "differences", "wish"]

FINALIZER = "fedplane.io/run"
"""Ours, and not upstream's: its controller would remove its own. While it is there, the object outlives the request to delete it."""

REQUEST_BYTES_MAX = FACT_BYTES_MAX - 10_000
"""What an object may ask for has to fit a fact, with its run, its time and the reason."""

EXPLANATION_CHARACTERS_MAX = 5_000
VALUE_CHARACTERS_MAX = 100
DIFFERENCES_MAX = 20
"""More than a person reads. The object itself has all of it."""

ENDED = (Phase.COMPLETED.value, Phase.FAILED.value)


@dataclass(frozen=True, slots=True)
class Wish:
    """One object.

    `invalid` says why it cannot be a run; then `resource` has its metadata alone.
    `held` is whether it has our finalizer, `deleting` whether somebody has asked to delete it.
    `ended` is whether its own status says that this run has ended: the log may have forgotten the run since.
    """

    run: str
    uid: str
    version: str
    resource: FederatedLearning
    finalizers: tuple[str, ...] = ()
    invalid: str = ""
    deleting: bool = False
    ended: bool = False

    @property
    def namespace(self) -> str:
        """The object's namespace."""
        return self.resource.metadata.namespace

    @property
    def name(self) -> str:
        """The object's name."""
        return self.resource.metadata.name

    @property
    def generation(self) -> int:
        """How often what it asks for was written."""
        return self.resource.metadata.generation

    @property
    def held(self) -> bool:
        """Whether it waits for us before it goes."""
        return FINALIZER in self.finalizers


def wish(body: Object) -> Wish:
    """What the object asks for. Raises BadInput if not even its metadata can be read, which no API server would have taken."""
    metadata = body["metadata"]
    try:
        kept = _metadata(metadata)
        run = run_id(kept.name, kept.uid)
    except (ValidationError, ValueError) as error:
        raise BadInput(f"the {KIND} {metadata.get('namespace')}/{metadata.get('name')} has metadata that cannot be: {error}") from error
    resource, invalid = _resource(kept, body.get("spec"))
    status = body.get("status")
    told = status if isinstance(status, dict) else {}
    return Wish(
        run=run,
        uid=kept.uid,
        version=metadata.get("resourceVersion", ""),
        resource=resource,
        finalizers=tuple(metadata.get("finalizers") or ()),
        invalid=invalid,
        deleting="deletionTimestamp" in metadata,
        ended=told.get("run") == run and told.get("phase") in ENDED,
    )


def differences(before: FederatedLearning, now: FederatedLearning) -> Iterator[str]:
    """In which fields of the spec two resources differ, a sentence each. What is written out and the default anyway is no difference."""
    old, new = (dict(_fields(each.spec.model_dump(mode="json", by_alias=True), "spec")) for each in (before, now))
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            yield f"{path} is {_said(old.get(path))} and not {_said(new.get(path))}"


def _metadata(metadata: Mapping[str, Any]) -> Metadata:
    """What a run needs of it. Of the annotations only ours: others' may be as large as the object, as kubectl's copy of it is."""
    annotations = metadata.get("annotations") or {}
    return Metadata.model_validate({
        **{name: metadata[name] for name in ("name", "namespace", "uid", "generation") if name in metadata},
        "annotations": {name: value for name, value in annotations.items() if name == APP_ANNOTATION},
    })  # fmt: skip


def _resource(metadata: Metadata, spec: object) -> tuple[FederatedLearning, str]:
    bare = FederatedLearning(api_version=API_VERSION, kind=KIND, metadata=metadata)
    try:
        asked = FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec or {}})
        size = len(asked.model_dump_json(by_alias=True, exclude_none=True).encode())
    except ValidationError as error:
        return bare, excerpt(explain_invalid(error).replace("\n", "; "), EXPLANATION_CHARACTERS_MAX)
    except ValueError as error:  # text that UTF-8 cannot write
        return bare, excerpt(f"the object cannot be written down: {error}", EXPLANATION_CHARACTERS_MAX)
    if size > REQUEST_BYTES_MAX:
        return bare, f"the object has {size} bytes, and what asks for a run may have {REQUEST_BYTES_MAX}; shorten its largest fields"
    return asked, ""


def _fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every field that is no object, with its path. A list is one field."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _fields(below, f"{path}.{name}")
    elif value is not None:
        yield path, value


def _said(value: object) -> str:
    return "not said" if value is None else excerpt(repr(value), VALUE_CHARACTERS_MAX)
