"""An expression as a tree. Each node knows how deep the tree below it is, itself included."""

from dataclasses import dataclass

__all__ = ["Binary", "Call", "Choice", "Index", "Joined", "ListOf", "Literal", "MapOf", "Name", "Node", "Select", "Unary"]


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is written down."""

    value: bool | int | float | str | None
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    name: str
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Select:
    """operand.field"""

    operand: "Node"
    field: str
    depth: int


@dataclass(frozen=True, slots=True)
class Index:
    """operand[key]"""

    operand: "Node"
    key: "Node"
    depth: int


@dataclass(frozen=True, slots=True)
class Call:
    """name(arguments) or target.name(arguments)"""

    name: str
    target: "Node | None"
    arguments: tuple["Node", ...]
    depth: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """[items]"""

    items: tuple["Node", ...]
    depth: int


@dataclass(frozen=True, slots=True)
class MapOf:
    """{key: value}"""

    entries: tuple[tuple["Node", "Node"], ...]
    depth: int


@dataclass(frozen=True, slots=True)
class Unary:
    """!operand or -operand"""

    sign: str
    operand: "Node"
    depth: int


@dataclass(frozen=True, slots=True)
class Binary:
    """left sign right, for arithmetic and comparisons"""

    sign: str
    left: "Node"
    right: "Node"
    depth: int


@dataclass(frozen=True, slots=True)
class Joined:
    """a && b && c, or a || b || c"""

    sign: str
    items: tuple["Node", ...]
    depth: int


@dataclass(frozen=True, slots=True)
class Choice:
    """condition ? one : other"""

    condition: "Node"
    one: "Node"
    other: "Node"
    depth: int


Node = Literal | Name | Select | Index | Call | ListOf | MapOf | Unary | Binary | Joined | Choice
