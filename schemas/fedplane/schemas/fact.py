"""What every fact is: immutable, timed, and identified by its subject, which is made of its own fields.

A misspelt field in a subject is found when the class is made, not when the first such fact is to be stated.
Which facts there are is said in `facts`.
"""

import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from fedplane.schemas.models import Instant

__all__ = ["Fact"]


class Fact(BaseModel):
    """Something that happened. Immutable; fields that a later version added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    type: ClassVar[str]
    template: ClassVar[str]
    said_by: ClassVar[str]
    replaces: ClassVar[bool] = False
    """Whether another statement under the same subject takes its place; else the first one counts."""
    is_announced: ClassVar[bool] = True
    """Whether subscribers hear it; else it is on the log and nowhere else."""
    bytes_max: ClassVar[int] = 900_000
    """What its body may have. A NATS server takes messages of 1 MiB by default, headers included; a fact that comes near it is carrying
    what belongs on the bulk stream.
    """

    at: Instant

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        unknown = set(re.findall(r"{(\w+)}", cls.__dict__.get("template", ""))) - set(cls.model_fields)
        if unknown:
            raise TypeError(f"{cls.__name__}: the subject names {sorted(unknown)}, which are no fields of it")

    @property
    def subject(self) -> str:
        """The fact's identity on the bus."""
        return self.template.format_map(self.__dict__)

    @classmethod
    def pattern(cls, **known: object) -> str:
        """The subject with every field that is not given left open: what to subscribe to."""
        if unknown := set(known) - set(re.findall(r"{(\w+)}", cls.template)):
            raise TypeError(f"the subject of {cls.__name__} does not name {sorted(unknown)}")
        return re.sub(r"{(\w+)}", lambda field: str(known.get(field[1], "*")), cls.template)
