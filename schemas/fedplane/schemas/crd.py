"""The CustomResourceDefinition of `FederatedLearning`: the resource's classes, said in Kubernetes' words.

Names, short name, defaults and printer columns are upstream's, so whatever was written for upstream's controller is served as it was.
What a Kubernetes schema may not say (references, alternatives, constants) is rewritten; it has to be *structural*.
A part whose schema is not ours keeps unknown fields; everywhere else the server drops them, as upstream's does.

Rules that compare fields are written in CEL. Servers before 1.25 drop them, so each is also kept by the service that reads the fields.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fedplane.schemas.json_schemas import plain_schema
from fedplane.schemas.object_status import ObjectStatus
from fedplane.schemas.resources import API_VERSION, FRAMEWORKS, KIND, Spec

__all__ = ["CRD_NAME", "GROUP", "PLURAL", "RULES", "VERSION", "custom_resource_definition", "structural"]

PLURAL = "federatedlearnings"

GROUP, VERSION = API_VERSION.split("/")
CRD_NAME = f"{PLURAL}.{GROUP}"
"""Kubernetes wants plural and group."""

COLUMNS = (
    ("Phase", "string", ".status.phase", "The current phase of the FederatedLearning process"),
    ("Round", "integer", ".status.round", "The training round that is under way, or was the last"),
    ("Participants", "integer", ".status.participating", "How many clusters take part"),
    ("Accuracy", "number", ".status.metrics.accuracy", "What was last measured, if the app calls it accuracy"),
    ("Age", "date", ".metadata.creationTimestamp", "When the object was made"),
)
"""What `kubectl get` shows: upstream's first and last, ours between them."""

NOT_DEFAULTED = frozenset({"spec.server.rounds", "spec.server.minAvailableClients", "spec.fold"})
"""Upstream's server leaves these out of an object that does not say them, or does not know them; ours are defaults of the run alone."""

_AVAILABLE = "(has(self.server) && has(self.server.minAvailableClients) ? self.server.minAvailableClients : 1)"
_NEEDED = f"(has(self.rounds.quorum) ? self.rounds.quorum : {_AVAILABLE})"

RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "spec": (
        (
            f"!has(self.rounds) || {_NEEDED} <= {_AVAILABLE}",
            "spec.rounds.quorum needs more answers than spec.server.minAvailableClients makes sure of",
        ),
        (
            f"!has(self.rounds) || !has(self.rounds.invite) || self.rounds.invite >= {_NEEDED}",
            "spec.rounds.invite asks fewer clusters than answers are needed",
        ),
        (
            f"!has(self.rounds) || !has(self.rounds.closeAt) || self.rounds.closeAt >= {_NEEDED}",
            "spec.rounds.closeAt is fewer contributions than are needed",
        ),
        (
            "!has(self.rounds) || !has(self.rounds.carry) || self.rounds.carry == 0 || "
            "!has(self.rounds.attempts) || self.rounds.attempts > 1 || "
            "!has(self.server) || !has(self.server.rounds) || self.server.rounds > 1",
            "spec.rounds.carry: with one training round and one attempt there is no later round in which an update could count",
        ),
    ),
    "spec.rounds": (
        (
            "!has(self.closeAt) || !has(self.invite) || self.closeAt <= self.invite",
            "spec.rounds.closeAt is more contributions than spec.rounds.invite asks for",
        ),
        (
            "!has(self.evaluateOn) || !has(self.evaluate) || self.evaluate",
            "spec.rounds.evaluateOn: no cluster evaluates when spec.rounds.evaluate is false",
        ),
        (
            "!has(self.keep) || self.keep != 'best' || has(self.stop)",
            "spec.rounds.keep: the best model is the one with the best spec.rounds.stop.metric, and there is no spec.rounds.stop",
        ),
        (
            "!has(self.stop) || has(self.stop.target) || has(self.stop.patience) || (has(self.keep) && self.keep == 'best')",
            "spec.rounds.stop has neither target nor patience, so it stops nothing",
        ),
    ),
}
"""By the field that a rule stands at: the rule, which is true of what is right, and what is wrong when it is false."""

ENUMS = {"spec.framework": FRAMEWORKS}
"""What is one of a table's names, and a plain text to Python."""

_KEPT = (
    "type", "format", "description", "default", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems",
    "minProperties", "maxProperties", "required", "x-kubernetes-list-map-keys",
)  # fmt: skip
"""Words that mean the same in JSON Schema and in Kubernetes' schemas."""


def custom_resource_definition() -> dict[str, Any]:
    """The object to apply."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "names": {"kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "shortNames": ["fl"], "singular": KIND.lower()},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": described} for name, kind, path, described in COLUMNS
                    ],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": _object()},
                }
            ],
        },
    }


def _object() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "FederatedLearning asks for a model to be trained where the data is.",
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the schema that the object follows."},
            "kind": {"type": "string", "description": "What the object is."},
            "metadata": {"type": "object"},
            "spec": structural(Spec, "spec"),
            "status": structural(ObjectStatus, "status"),
        },
    }


def structural(model: type[BaseModel], path: str) -> dict[str, Any]:
    """The structural schema of a class that stands at a path of the object."""
    schema = plain_schema(model)
    return _structural(schema, schema.get("$defs", {}), path)


def _structural(given: Mapping[str, Any], parts: Mapping[str, Any], path: str) -> dict[str, Any]:
    given = _resolved(given, parts)
    if "anyOf" in given:
        return _described(given, _alternatives(given["anyOf"], given))
    written = {word: given[word] for word in _KEPT if word in given}
    if "default" in written and (path in NOT_DEFAULTED or written["default"] in ("", None) or isinstance(written["default"], list | dict)):
        del written["default"]
    if "const" in given:
        written["enum"] = [given["const"]]
    if "enum" in written:
        written["enum"] = [word for word in written["enum"] if word != ""]  # in Python it stands for what is left out
    if path in ENUMS:
        written["enum"] = list(ENUMS[path])
    for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if word in given:
            written |= {bound: given[word], word: True}
    if "x-kubernetes-list-map-keys" in given:
        written["x-kubernetes-list-type"] = "map"
    if "type" not in given:
        written["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in given:
        written["items"] = _structural(given["items"], parts, path + "[]")
    written |= _fields(given, parts, path) if given.get("type") == "object" else {}
    if path in RULES:
        written["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in RULES[path]]
    return written


def _resolved(given: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """What a reference stands for; what is said beside it counts more."""
    if "$ref" not in given:
        return dict(given)
    return _resolved(parts[given["$ref"].rpartition("/")[2]], parts) | {word: said for word, said in given.items() if word != "$ref"}


def _alternatives(options: list[dict[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """A number or a text is one kind of field; other alternatives are left open here and judged by whoever reads them."""
    if {"integer", "string"} <= {option.get("type") for option in options} <= {"integer", "number", "string"}:
        pattern = next((option["pattern"] for option in options if "pattern" in option), None)
        written: dict[str, Any] = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
        default = {"default": given["default"]} if given.get("default") is not None else {}
        return written | ({"pattern": pattern} if pattern else {}) | default
    return {"x-kubernetes-preserve-unknown-fields": True}


def _described(given: Mapping[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    return ({"description": given["description"]} if "description" in given else {}) | written


def _fields(given: Mapping[str, Any], parts: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Named fields, or fields of any name with one schema; Kubernetes knows no mixture, so then the schema of any name is that of all."""
    others = next(iter(given.get("patternProperties", {}).values()), given.get("additionalProperties"))  # it knows no patterns of names
    if isinstance(others, dict):
        return {"additionalProperties": _structural(others, parts, path + "[]")}
    if "properties" not in given or others is True:
        named = {name: _structural(field, parts, f"{path}.{name}") for name, field in given.get("properties", {}).items()}
        return ({"properties": named} if named else {}) | {"x-kubernetes-preserve-unknown-fields": True}
    return {"properties": {name: _structural(field, parts, f"{path}.{name}") for name, field in given["properties"].items()}}
