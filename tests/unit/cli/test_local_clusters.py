"""What a person may write into a clusters file, and what is said about what he may not."""

from pathlib import Path

import pytest

from fedplane.cli.clusters import CLUSTERS_MAX, Allocatable, Cluster, parse, read, render, resolved
from fedplane.runtime.errors import BadInput

HOSPITALS = """
clusters:
  - name: hospital-a
    claims: {mnist.client-data: data/a, mnist.samples: 500}
    allocatable: {cpu: 4, memory: 8Gi}
    labels: {region: eu}
  - name: hospital-b
"""
A = Cluster(
    name="hospital-a",
    claims={"mnist.client-data": "data/a", "mnist.samples": "500"},
    allocatable=Allocatable(cpu="4", memory="8Gi"),
    labels={"region": "eu"},
)
B = Cluster(name="hospital-b")


def test_a_file_is_read_whole_and_numbers_become_the_text_that_claims_and_quantities_are():
    assert parse(HOSPITALS, "c.yaml") == (A, B)


def test_what_is_rendered_reads_the_same():
    assert parse(render((A, B)), "again.yaml") == (A, B)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clusters: [", "c.yaml is no YAML"),
        ("- name: a", "c.yaml must have one field, `clusters`, with a list of clusters"),
        ("clusters: 3", "c.yaml must have one field, `clusters`, with a list of clusters"),
        ("cluster: []\nclusters: []", "c.yaml must have one field, `clusters`, with a list of clusters"),
        ("clusters: [{name: Hospital_A}]", "entry 1 (Hospital_A): name: String should match"),
        ("clusters: [{name: a}, {name: b, allocatable: {cpu: many}}]", "entry 2 (b): allocatable.cpu: 'many' is no Kubernetes quantity"),
        ("clusters: [{name: a, claim: {}}]", "entry 1 (a): claim: is not a field"),
        ("clusters: [{claims: {}}]", "entry 1: name: Field required"),
        ("clusters: [{name: a}, {name: a}]", "entry 2 (a): an earlier entry has this name"),
        ("clusters: [hospital]", "entry 1: the document: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_file_is_refused_with_the_entry_and_what_is_wrong_with_it(text: str, said: str):
    with pytest.raises(BadInput) as refused:
        parse(text, "c.yaml")

    assert said in str(refused.value)


def test_every_wrong_entry_is_named_at_once():
    with pytest.raises(BadInput) as refused:
        parse("clusters: [{name: A}, {name: b}, {name: C}]", "c.yaml")

    assert [line.partition(":")[0] for line in str(refused.value).splitlines()[1:]] == ["entry 1 (A)", "entry 3 (C)"]


def test_more_clusters_than_one_machine_takes_are_refused():
    names = [Cluster(name=f"c{number}") for number in range(CLUSTERS_MAX + 1)]

    assert parse(render(tuple(names[:-1])), "c.yaml") == tuple(names[:-1])
    with pytest.raises(BadInput, match=f"has {CLUSTERS_MAX + 1} clusters; one machine takes {CLUSTERS_MAX}"):
        parse(render(tuple(names)), "c.yaml")


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path):
    with pytest.raises(BadInput, match=r"cannot read the clusters file .*none\.yaml"):
        read(tmp_path / "none.yaml")


def test_a_claim_that_names_something_beside_the_file_becomes_an_absolute_path_and_any_other_stays_as_it_is(tmp_path: Path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    as_written = {"samples": "500", "nothing": "", "elsewhere": "s3://bucket/a", "statistics": '{"digits": 1}' * 100, "impossible": "a\0b"}
    cluster = Cluster(name="a", claims={"data": "data/a", "up": "data/../data/a", **as_written})

    where = str(tmp_path / "data" / "a")
    assert resolved(cluster, tmp_path) == Cluster(name="a", claims={"data": where, "up": where, **as_written})
