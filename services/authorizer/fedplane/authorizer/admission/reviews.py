"""What an API server asks an admission webhook, and how it is answered: AdmissionReview, of `admission.k8s.io/v1`.

Only what is looked at is read, and strictly: a number is no text, and nothing is guessed.
What belongs to the question itself has to be there, or whoever asks is no API server.
The object may be anything, since that is what a stranger has written; it is read by itself, so that a bad one can be answered for.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fedplane.runtime.errors import BadInput

__all__ = ["Condition", "Requester", "Review", "Wanted", "answer_to", "parse_review", "wanted_in"]

VERSION = "admission.k8s.io/v1"


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel)


class Requester(_Read):
    """Who asks the API server, as it has found out itself."""

    username: str = ""
    groups: tuple[str, ...] = Field(default=(), strict=False)


class _Kind(_Read):
    group: str
    version: str
    kind: str


class _Question(_Read):
    uid: str
    kind: _Kind
    operation: str
    sub_resource: str = ""
    user_info: Requester
    object: Mapping[str, Any] | None = None


class Review(_Read):
    """A question of an API server's."""

    api_version: Literal["admission.k8s.io/v1"]
    request: _Question


class _Metadata(_Read):
    labels: Mapping[str, str] = {}


class _Spec(_Read):
    request: str
    signer_name: str
    usages: tuple[str, ...] = Field(default=(), strict=False)
    username: str = ""
    groups: tuple[str, ...] = Field(default=(), strict=False)


class Condition(_Read):
    """What somebody has decided about a certificate request."""

    type: str


class _Status(_Read):
    conditions: tuple[Condition, ...] = Field(default=(), strict=False)


class Wanted(_Read):
    """A CertificateSigningRequest: what is asked for, and, once it is stored, who has asked."""

    metadata: _Metadata
    spec: _Spec
    status: _Status = _Status()


def parse_review(body: bytes) -> Review:
    """The question. Raises BadInput for what no API server asks."""
    try:
        return Review.model_validate_json(body)
    except ValidationError as error:
        raise BadInput(f"that is no AdmissionReview of {VERSION}: {_first(error)}") from error


def wanted_in(review: Review) -> Wanted:
    """The certificate request that it is about. Raises BadInput for one that lacks something, or has something of another type."""
    try:
        return Wanted.model_validate(review.request.object)
    except ValidationError as error:
        raise BadInput(f"that is no CertificateSigningRequest: {_first(error)}") from error


def answer_to(review: Review, refused: str) -> dict[str, Any]:
    """The answer: why it is refused, or, with nothing said, that it is allowed."""
    response: dict[str, Any] = {"uid": review.request.uid, "allowed": not refused}
    if refused:
        response |= {"status": {"code": 403, "reason": "Forbidden", "message": refused}}
    return {"apiVersion": VERSION, "kind": "AdmissionReview", "response": response}


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg']}"
