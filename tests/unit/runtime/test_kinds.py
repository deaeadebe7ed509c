"""The table of kinds says of Open Cluster Management's kinds what its own definitions say."""

from typing import Any

from fedplane.runtime import kinds
from fedplane.runtime.objects import Kind


def test_each_kind_is_the_one_that_is_defined(ocm_crds: dict[str, dict[str, Any]]) -> None:
    table = [getattr(kinds, name) for name in kinds.__all__]

    defined = {definition["metadata"]["name"]: definition["spec"] for definition in ocm_crds.values()}
    custom = [kind for kind in table if kind.group.endswith("open-cluster-management.io")]

    assert len(custom) == 8
    for kind in custom:
        spec = defined[f"{kind.plural}.{kind.group}"]
        (version,) = (version for version in spec["versions"] if version["name"] == kind.version)
        assert version["served"]
        said = Kind(
            spec["group"], kind.version, spec["names"]["kind"], spec["names"]["plural"],
            spec["scope"] == "Namespaced", "status" in version.get("subresources", {}),
        )  # fmt: skip
        assert kind == said
