"""Expressions about a cluster: read once, asked of many clusters, each time at a bounded cost.

Why our own: a selector is the user's text and is evaluated for every cluster inside the scheduler, so its cost has to have a bound.
Of the libraries there are, none counts steps or can be stopped, and one ends the process when a text is deep (docs/adr/0013).
An expression becomes functions within functions, as the tree is, which is the fastest that plain Python evaluates.

As the language wants it, && and || do not fail if either side decides, and neither do all() and exists().
The variable is `managedCluster`; `managedCluster.scores("NAME")` are the values of an AddOnPlacementScore, valid or not.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from fedplane.scheduler.ocm.cel import tree
from fedplane.scheduler.ocm.cel.functions import FUNCTIONS, MEMBERS, called
from fedplane.scheduler.ocm.cel.operators import BINARY
from fedplane.scheduler.ocm.cel.parsing import parse
from fedplane.scheduler.ocm.cel.values import Failure, Meter, Value, integer, is_integer, type_name
from fedplane.scheduler.ocm.inventory import AddOnPlacementScore

__all__ = ["COST_MAX", "EXPRESSIONS_MAX", "Expression", "compiled"]

COST_MAX = 10_000
"""What the expressions of a placement may cost for one cluster, in steps: about 10 ms.

Open Cluster Management allows a thousand times as much, in Go. To look through 20 claims costs about 160.
"""

EXPRESSIONS_MAX = 100
"""Expressions of one placement; people write one or two."""

REMEMBERED_MAX = 256
"""Compiled expressions that are kept: a waiting run is placed again and again."""

VARIABLE = "managedCluster"
MACROS = {"all", "exists", "exists_one", "filter", "map"}

Scores = Mapping[tuple[str, str], AddOnPlacementScore]


@dataclass(frozen=True, slots=True)
class _Scope:
    variables: dict[str, Value]
    scores: Scores
    meter: Meter


_Evaluator = Callable[[_Scope], Value]


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that can be asked."""

    text: str
    evaluate: _Evaluator

    def value(self, document: Mapping[str, object], scores: Scores, meter: Meter) -> Value:
        """Its value for the cluster that the document describes. Raises Failure if it has none."""
        try:
            return self.evaluate(_Scope({VARIABLE: document}, scores, meter))  # type: ignore[dict-item]
        except RecursionError as error:  # of values, which a claim's JSON may nest a thousand deep; the expression itself is bounded
            raise Failure("it compares values that are nested too deep") from error


@lru_cache(maxsize=REMEMBERED_MAX)
def compiled(text: str) -> Expression:
    """The expression. Raises ValueError that says what is wrong with the text, or what of it is not supported."""
    return Expression(text, _compiled(parse(text), frozenset({VARIABLE})))


def _compiled(node: tree.Node, known: frozenset[str]) -> _Evaluator:
    """The function that evaluates a node; `known` are the variables there are."""
    match node:
        case tree.Literal(value):
            return lambda scope: value
        case tree.Name(name):
            if name not in known:
                raise ValueError(f"there is no variable {name}; there is {', '.join(sorted(known))}")
            return _name(name)
        case tree.Select(operand, field):
            return _index(_compiled(operand, known), lambda scope: field)
        case tree.Index(operand, key):
            return _index(_compiled(operand, known), _compiled(key, known))
        case tree.ListOf(items):
            return _list(tuple(_compiled(item, known) for item in items))
        case tree.MapOf(entries):
            return _map(tuple((_compiled(key, known), _compiled(value, known)) for key, value in entries))
        case tree.Unary(sign, operand):
            return _not(_compiled(operand, known)) if sign == "!" else _negative(_compiled(operand, known))
        case tree.Binary(sign, left, right):
            return _binary(sign, _compiled(left, known), _compiled(right, known))
        case tree.Joined(sign, items):
            return _joined(sign == "||", tuple(_compiled(item, known) for item in items))
        case tree.Choice(condition, one, other):
            return _choice(_compiled(condition, known), _compiled(one, known), _compiled(other, known))
        case tree.Call():
            return _call(node, known)


def _call(node: tree.Call, known: frozenset[str]) -> _Evaluator:
    if node.target is None and node.name == "has":
        if len(node.arguments) != 1 or not isinstance(node.arguments[0], tree.Select):
            raise ValueError("has() takes a field, as in has(managedCluster.metadata)")
        return _has(_compiled(node.arguments[0].operand, known), node.arguments[0].field)
    if node.target is not None and node.name in MACROS:
        return _macro(node, node.target, known)
    given = node.arguments if node.target is None else (node.target, *node.arguments)
    arguments = tuple(_compiled(argument, known) for argument in given)
    if node.target is not None and node.name == "scores" and len(arguments) == 2:
        return _scores(*arguments)
    overloads = (FUNCTIONS if node.target is None else MEMBERS).get(node.name)
    if overloads is None:
        known_names = sorted(FUNCTIONS) if node.target is None else sorted({*MEMBERS, *MACROS, "scores"})
        raise ValueError(f"{node.name}() is not supported; supported are {', '.join(known_names)}")
    return lambda scope: called(overloads, node.name, scope.meter, [argument(scope) for argument in arguments])


def _name(name: str) -> _Evaluator:
    def evaluate(scope: _Scope) -> Value:
        scope.meter.spend(1)
        return scope.variables[name]

    return evaluate


def _index(operand: _Evaluator, key: _Evaluator) -> _Evaluator:
    def evaluate(scope: _Scope) -> Value:
        scope.meter.spend(1)
        held, at = operand(scope), key(scope)
        if isinstance(held, dict) and isinstance(at, str):
            if at in held:
                return held[at]
            raise Failure(f"there is no {at}")
        if isinstance(held, list) and is_integer(at):
            if 0 <= at < len(held):
                return held[at]
            raise Failure(f"a list of {len(held)} has no element {at}")
        raise Failure(f"{type_name(held)} has no parts by {type_name(at)}")

    return evaluate


def _list(items: tuple[_Evaluator, ...]) -> _Evaluator:
    def evaluate(scope: _Scope) -> Value:
        scope.meter.spend(1 + len(items))
        return [item(scope) for item in items]

    return evaluate


def _map(entries: tuple[tuple[_Evaluator, _Evaluator], ...]) -> _Evaluator:
    def evaluate(scope: _Scope) -> Value:
        scope.meter.spend(1 + len(entries))
        made: dict[str, Value] = {}
        for key, value in entries:
            name = key(scope)
            if not isinstance(name, str) or name in made:
                raise Failure("the keys of a map are different strings")
            made[name] = value(scope)
        return made

    return evaluate


def _not(operand: _Evaluator) -> _Evaluator:
    return lambda scope: not _truth(operand(scope))


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise Failure(f"{type_name(value)} is neither true nor false")
    return value


def _negative(operand: _Evaluator) -> _Evaluator:
    def evaluate(scope: _Scope) -> Value:
        value = operand(scope)
        if isinstance(value, float):
            return -value
        if is_integer(value):
            return integer(-value)
        raise Failure(f"{type_name(value)} has no negative")

    return evaluate


def _binary(sign: str, left: _Evaluator, right: _Evaluator) -> _Evaluator:
    compute = BINARY[sign]

    def evaluate(scope: _Scope) -> Value:
        scope.meter.spend(1)
        return compute(left(scope), right(scope), scope.meter)

    return evaluate


def _joined(decides: bool, items: tuple[_Evaluator, ...]) -> _Evaluator:
    """&& and ||: the truth value that decides wins over a failure of any other side."""
    return lambda scope: _decided(decides, ((item, scope) for item in items))


def _decided(decides: bool, items: Iterator[tuple[_Evaluator, _Scope]]) -> bool:
    failure = None
    for item, scope in items:
        scope.meter.spend(1)  # outside of what is caught: who has run out of budget is not saved by another side
        try:
            if _truth(item(scope)) is decides:
                return decides
        except Failure as error:
            failure = failure or error
    if failure:
        raise failure
    return not decides


def _choice(condition: _Evaluator, one: _Evaluator, other: _Evaluator) -> _Evaluator:
    return lambda scope: one(scope) if _truth(condition(scope)) else other(scope)


def _has(operand: _Evaluator, field: str) -> _Evaluator:
    def evaluate(scope: _Scope) -> Value:
        held = operand(scope)
        if not isinstance(held, dict):
            raise Failure(f"{type_name(held)} has no fields")
        return field in held

    return evaluate


def _scores(cluster: _Evaluator, name: _Evaluator) -> _Evaluator:
    def evaluate(scope: _Scope) -> Value:
        scope.meter.spend(1)
        described, wanted = cluster(scope), name(scope)
        metadata = described.get("metadata") if isinstance(described, dict) else None
        own = metadata.get("name") if isinstance(metadata, dict) else None
        found = scope.scores.get((own, wanted)) if isinstance(own, str) and isinstance(wanted, str) else None
        if found is None:
            raise Failure(f"there is no AddOnPlacementScore {wanted}")
        scope.meter.spend(len(found.scores))
        return [{"name": each, "value": value} for each, value in found.scores]

    return evaluate


def _macro(node: tree.Call, target: tree.Node, known: frozenset[str]) -> _Evaluator:
    """all, exists, exists_one, filter and map: what they say of every element, or of every key of a map."""
    if len(node.arguments) not in ({2, 3} if node.name == "map" else {2}) or not isinstance(node.arguments[0], tree.Name):
        raise ValueError(f"{node.name}() takes a variable's name and an expression with it")
    variable = node.arguments[0].name
    over = _compiled(target, known)
    *conditions, body = (_compiled(argument, known | {variable}) for argument in node.arguments[1:])

    def scopes(scope: _Scope) -> Iterator[tuple[Value, _Scope]]:
        held = over(scope)
        if not isinstance(held, list | dict):
            raise Failure(f"{node.name}() of {type_name(held)}")
        for item in held:
            scope.meter.spend(1)
            inner = _Scope({**scope.variables, variable: item}, scope.scores, scope.meter)
            if all(_truth(condition(inner)) for condition in conditions):
                yield item, inner

    def evaluate(scope: _Scope) -> Value:
        each = scopes(scope)
        match node.name:
            case "all" | "exists":
                return _decided(node.name == "exists", ((body, inner) for _, inner in each))
            case "exists_one":
                return sum(_truth(body(inner)) for _, inner in each) == 1
            case "filter":
                return [item for item, inner in each if _truth(body(inner))]
        return [body(inner) for _, inner in each]

    return evaluate
