"""What the parts of a `FederatedLearning` object have in common: how they are written, and what becomes of fields that nobody knows.

Names are camelCase in YAML and snake_case in Python. A string under a field is its description, in JSON Schema and in the CRD.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel

__all__ = ["IGNORE_UNKNOWN", "Open", "Part"]

IGNORE_UNKNOWN = "ignore unknown fields"
"""Validation context for a resource from the log: whoever put it there had it checked, perhaps by a later version than this one."""


class Part(BaseModel):
    """A part whose fields are ours or upstream's: any other is a typing error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _ignore_unknown(cls, given: Any, info: ValidationInfo) -> Any:
        if info.context != IGNORE_UNKNOWN or cls.model_config.get("extra") != "forbid" or not isinstance(given, dict):
            return given
        known = {*cls.model_fields, *(field.alias or name for name, field in cls.model_fields.items())}
        return {name: value for name, value in given.items() if name in known}


class Open(BaseModel):
    """A part whose schema is not ours: fields that we do not read are kept and passed on."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True)
