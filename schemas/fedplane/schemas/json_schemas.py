"""JSON Schemas of the facts and of the resource, for those who read or write them without Python.

They are derived from the classes by pydantic; what is added here is an identity and the meaning of every word.
A fact's schema describes what is on the wire and lets unknown fields pass, as every reader must, since later versions add optional fields.
The resource's schema describes what a user may write and refuses unknown fields, since those are typing errors.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from fedplane.schemas.facts import FACTS, Fact
from fedplane.schemas.glossary import meaning
from fedplane.schemas.models import Chosen, Contents, Exposure, Instruction, Model, Piece, Refused, Term
from fedplane.schemas.privacy_terms import Keyholder, LocalTerms, MaskingTerms, NoiseTerms, Spent
from fedplane.schemas.resources import FederatedLearning

__all__ = ["VALUES", "fact_schema", "plain_schema", "resource_schema", "value_schema"]

VALUES: tuple[type[BaseModel], ...] = (
    Piece, Contents, Model, Instruction, Term, Chosen, Refused, Exposure, MaskingTerms, Keyholder, NoiseTerms, Spent, LocalTerms,
)  # fmt: skip
"""What facts are made of, the simplest first; each has a section of its own in the documentation."""

_IDENTITIES = "https://fedplane.io/schemas/"
_OURS = {each.__name__ for each in (*FACTS, *VALUES)}


class _Plain(GenerateJsonSchema):
    """pydantic's generator without what tells a reader nothing: titles that repeat names, sorted fields, and null for "left out"."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def sort(self, value: Any, parent_key: str | None = None) -> Any:
        return value

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"]) if schema.get("default", ...) is None else super().default_schema(schema)


def fact_schema(fact: type[Fact]) -> JsonSchemaValue:
    """What the body of such a message is."""
    return _identified(fact.type, value_schema(fact))


def value_schema(value: type[BaseModel]) -> JsonSchemaValue:
    """A fact, or a part of facts, by itself."""
    schema = value.model_json_schema(mode="serialization", schema_generator=_Plain)
    for part in (schema, *schema.get("$defs", {}).values()):
        part.pop("additionalProperties", None)
        if part["title"] in _OURS:
            for field, described in part["properties"].items():
                described["description"] = meaning(part["title"], field)
    return schema


def resource_schema() -> JsonSchemaValue:
    """What a user may write."""
    return _identified(FederatedLearning.__name__, plain_schema(FederatedLearning))


def plain_schema(part: type[BaseModel]) -> JsonSchemaValue:
    """A part of the resource by itself, as a user may write it."""
    return part.model_json_schema(mode="validation", schema_generator=_Plain)


def _identified(name: str, schema: JsonSchemaValue) -> JsonSchemaValue:
    heading = {"$schema": GenerateJsonSchema.schema_dialect, "$id": f"{_IDENTITIES}{name}.json"}
    return heading | {word: schema[word] for word in ("title", "description")} | schema
