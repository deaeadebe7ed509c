"""The CustomResourceDefinition is structural, explains itself, differs from upstream's where it says so, and rules as the services do."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplane.aggregator.policies import check
from fedplane.runtime.errors import BadInput
from fedplane.scheduler.ocm.cel.expressions import compiled
from fedplane.scheduler.ocm.cel.values import Meter
from fedplane.schemas.crd import CRD_NAME, RULES, custom_resource_definition
from fedplane.schemas.resources import FederatedLearning, Spec

Schema = dict[str, Any]

PLACEMENT = "spec.client.placement"
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]

WORDS = ("type", "default", "enum", "minimum", "maximum", "pattern", "minLength", "maxLength", "maxItems", "x-kubernetes-int-or-string")
"""What decides which values are taken and how they are stored."""


def schema_of(definition: Schema) -> Schema:
    found: Schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def parts(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema, with the path of the field."""
    yield path.removeprefix("."), schema
    for name, field in schema.get("properties", {}).items():
        yield from parts(field, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from parts(schema[inner], f"{path}[]")


def test_every_part_is_structural() -> None:
    for path, part in parts(schema_of(custom_resource_definition())):
        typed = "type" in part or part.get("x-kubernetes-int-or-string") or part.get("x-kubernetes-preserve-unknown-fields")
        assert typed, f"{path} has no type"
        assert part.get("anyOf", INT_OR_STRING) == INT_OR_STRING, f"{path} has alternatives"
        assert not {"$ref", "const", "allOf", "oneOf", "title", "$defs"} & part.keys(), f"{path} has what Kubernetes does not take"
        assert not {"properties", "additionalProperties"} <= part.keys(), f"{path} has fields of two kinds"


def test_every_field_says_what_it_means() -> None:
    silent = [path for path, part in parts(schema_of(custom_resource_definition())) if "description" not in part and not path.endswith("]")]

    assert silent == ["metadata"]


def test_only_a_placement_and_what_is_handed_to_pods_keep_what_they_do_not_know() -> None:
    keeping = [path for path, part in parts(schema_of(custom_resource_definition())) if part.get("x-kubernetes-preserve-unknown-fields")]

    assert [path for path in keeping if not path.startswith(PLACEMENT)] == [
        "spec.client.template.env[].valueFrom",
        "spec.client.template.imagePullSecrets[]",
        "spec.client.template.perCluster[].env[].valueFrom",
        "spec.client.template.perCluster[].imagePullSecrets[]",
        "spec.config[]",
    ]
    assert PLACEMENT in keeping


DIFFERENCES = {
    "spec.framework": {"enum"},
    "spec.server.rounds": {"minimum", "maximum"},
    f"{PLACEMENT}.numberOfClusters": {"minimum"},
    f"{PLACEMENT}.predicates[].requiredClusterSelector.labelSelector.matchExpressions[].operator": {"enum"},
    f"{PLACEMENT}.predicates[].requiredClusterSelector.claimSelector.matchExpressions[].operator": {"enum"},
    f"{PLACEMENT}.decisionStrategy.groupStrategy.decisionGroups[].groupName": {"pattern"},
    f"{PLACEMENT}.decisionStrategy.groupStrategy.decisionGroups[].groupClusterSelector.labelSelector.matchExpressions[].operator": {"enum"},
    f"{PLACEMENT}.decisionStrategy.groupStrategy.decisionGroups[].groupClusterSelector.claimSelector.matchExpressions[].operator": {"enum"},
    f"{PLACEMENT}.spreadPolicy.spreadConstraints[].topologyKey": {"pattern", "maxLength"},
    f"{PLACEMENT}.tolerations[].key": {"pattern"},
    f"{PLACEMENT}.tolerations[].operator": {"enum"},
}
"""Where we take less than upstream, because it could not run anyway, or leave a pattern to the Placement that is made of it."""


def test_what_upstream_has_is_here_and_differs_where_that_is_said(ocm_crds: dict[str, Schema]) -> None:
    upstream, ours = (dict(parts(schema_of(each))) for each in (ocm_crds[CRD_NAME], custom_resource_definition()))

    differing = {
        path: words
        for path, part in upstream.items()
        if (words := {word for word in WORDS if _same_order(part.get(word)) != _same_order(ours[path].get(word))})
    }

    assert differing == DIFFERENCES


def _same_order(said: Any) -> Any:
    return sorted(said) if isinstance(said, list) else said


def test_its_names_are_upstreams_and_its_columns_begin_and_end_as_upstreams(ocm_crds: dict[str, Schema]) -> None:
    upstream, ours = ocm_crds[CRD_NAME]["spec"], custom_resource_definition()["spec"]

    assert {word: ours[word] for word in ("group", "names", "scope")} == {word: upstream[word] for word in ("group", "names", "scope")}
    assert ours["versions"][0]["subresources"] == upstream["versions"][0]["subresources"]
    columns, theirs = (
        [(column["name"], column["type"], column["jsonPath"]) for column in each["versions"][0]["additionalPrinterColumns"]]
        for each in (ours, upstream)
    )
    assert [columns[0], columns[-1]] == theirs


def test_each_field_of_the_resource_is_a_field_of_the_definition() -> None:
    (spec,) = (part for path, part in parts(schema_of(custom_resource_definition())) if path == "spec")

    assert list(spec["properties"]) == [field.alias for field in Spec.model_fields.values()]
    assert set(schema_of(custom_resource_definition())["properties"]) == {field.alias for field in FederatedLearning.model_fields.values()}


small = st.integers(1, 4)
stops = st.fixed_dictionaries({"metric": st.just("accuracy"), "mode": st.just("max")}, optional={"target": st.just(1.0), "patience": small})
rounds = st.fixed_dictionaries(
    {},
    optional={
        "attempts": st.integers(1, 2), "carry": st.integers(0, 1), "closeAt": small, "evaluate": st.booleans(), "evaluateOn": small,
        "invite": small, "keep": st.sampled_from(["last", "best"]), "quorum": small, "stop": stops,
    },
)  # fmt: skip
specs = st.fixed_dictionaries(
    {},
    optional={"server": st.fixed_dictionaries({}, optional={"rounds": st.integers(1, 2), "minAvailableClients": small}), "rounds": rounds},
)


def broken_rules(spec: dict[str, Any]) -> list[str]:
    found = []
    for path, rules in RULES.items():
        at = spec if path == "spec" else spec.get("rounds")
        if at is not None:
            found += [
                message for rule, message in rules if not compiled(rule.replace("self", "managedCluster")).value(at, {}, Meter(10_000))
            ]
    return found


@given(specs)
def test_a_server_that_knows_the_rules_refuses_what_the_aggregator_refuses(spec: dict[str, Any]) -> None:
    try:
        check(Spec.model_validate(spec))
    except BadInput as refused:
        assert broken_rules(spec), f"only the aggregator refuses this: {refused}"
    else:
        assert broken_rules(spec) == []


@pytest.mark.parametrize(("path", "message"), [(path, message) for path, rules in RULES.items() for _, message in rules])
def test_a_rule_names_the_field_that_it_is_about(path: str, message: str) -> None:
    fields = {path for path, _ in parts(schema_of(custom_resource_definition()))}

    assert message.startswith(path)
    assert message.split(maxsplit=1)[0].rstrip(":") in fields
