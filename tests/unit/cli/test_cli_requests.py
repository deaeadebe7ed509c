"""What a YAML file must be to become a run, and what a person is told when it is not."""

import hashlib
from pathlib import Path

import pytest

from fedplane.cli.requests import APP_FILES, FILE_BYTES_MAX, read
from fedplane.runtime.errors import BadInput
from fedplane.schemas.bundles import BUNDLE_BYTES_MAX
from fedplane.schemas.resources import FRAMEWORKS

HEAD = "apiVersion: federation-ai.open-cluster-management.io/v1alpha1\nkind: FederatedLearning\n"
PLAIN = HEAD + "metadata: {name: mnist}\n"


def written(directory: Path, text: str) -> Path:
    path = directory / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def app_in(directory: Path) -> Path:
    (directory / "app/plan").mkdir(parents=True)
    (directory / "app/plan/plan.yaml").touch()
    return directory / "app"


def test_every_reading_is_a_request_of_its_own_unless_the_file_has_a_uid(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    first, second = read(path), read(path)
    same = read(written(tmp_path, HEAD + "metadata: {name: mnist, uid: 5f3a}\n"))

    assert first.metadata.uid != second.metadata.uid
    assert same.metadata.uid == "5f3a"


def test_an_app_of_every_framework_is_known_by_a_file() -> None:
    assert set(APP_FILES) == set(FRAMEWORKS)


def test_the_app_is_found_from_the_file_wherever_the_command_was_started(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    annotated = read(
        written(tmp_path, HEAD + "metadata: {name: mnist, annotations: {fedplane.io/app: ./app, team: a}}\nspec: {framework: openfl}\n")
    )

    assert annotated.metadata.annotations == {"fedplane.io/app": str(app), "team": "a"}


def bundled(tmp_path: Path, app: str, framework: str = "flower") -> str:
    """What the annotation becomes."""
    head = HEAD + f"metadata: {{name: mnist, annotations: {{fedplane.io/app: '{app}'}}}}\n"
    return read(written(tmp_path, head + f"spec: {{framework: {framework}}}\n")).metadata.annotations["fedplane.io/app"]


def test_a_bundle_is_named_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "app.fab").write_bytes(b"an app")
    digest = hashlib.sha256(b"an app").hexdigest()

    assert bundled(tmp_path, "app.fab") == bundled(tmp_path, f"./app.fab#sha256={digest}") == f"{tmp_path}/app.fab#sha256={digest}"
    for app, framework, said in (
        ("app.fab#sha256=12", "flower", f"and the SHA-256 of {tmp_path}/app.fab is {digest}"),
        ("app.fab", "torch", "a bundle of Flower's, and spec.framework is 'torch'; say flower"),
        ("gone.fab", "flower", f"and {tmp_path}/gone.fab cannot be read: No such file or directory"),
    ):
        with pytest.raises(BadInput) as refused:
            bundled(tmp_path, app, framework)
        assert str(refused.value).endswith(said)


def test_a_bundle_larger_than_flower_allows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.fab").write_bytes(bytes(BUNDLE_BYTES_MAX + 1))

    with pytest.raises(BadInput, match=f"has more than {BUNDLE_BYTES_MAX} bytes, which no bundle may have"):
        bundled(tmp_path, "app.fab")


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "another kind": ("apiVersion: apps/v1\nkind: Deployment\n", "found apiVersion apps/v1 and kind Deployment; a run needs"),
        "no kind at all": ("a: 1\n", "found apiVersion (none) and kind (none)"),
        "two documents": (PLAIN + "---\n" + PLAIN, "found 2 YAML documents; submit takes one at a time"),
        "nothing": ("# only a comment\n", "found 0 YAML documents"),
        "a list": ("- a\n", "found list where a resource"),
        "no YAML": ("a: [1\nb: 2\n", "line 2, column 2: this is no YAML: expected ',' or ']'"),
        "control characters": ("a: \x07\n", "this is no YAML"),
        "a misspelt field": (PLAIN + "spec: {server: {round: 3}}\n", "  spec.server.round: is not a field of this resource"),
        "a wrong value": (PLAIN + "spec: {server: {rounds: many}}\n", "  spec.server.rounds: Input should be a valid integer"),
        "an unknown framework": (
            PLAIN + "spec: {framework: flowr}\n",
            "spec.framework is 'flowr'; known are flower, openfl, other, torch, sklearn, xgboost",
        ),
        "a missing app": (HEAD + "metadata: {name: x, annotations: {fedplane.io/app: gone}}\n", "gone is no directory"),
        "a folder that is no app": (
            HEAD + "metadata: {name: x, annotations: {fedplane.io/app: .}}\nspec: {framework: flower}\n",
            "has no pyproject.toml, so it is no app of the framework 'flower'",
        ),
        "far too much": ("#" * (FILE_BYTES_MAX + 1), f"has {FILE_BYTES_MAX + 1} bytes, and a resource may have {FILE_BYTES_MAX}"),
    }.values(),
)
def test_a_file_that_is_no_request_is_refused_with_what_to_change(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(BadInput) as refused:
        read(path)

    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")

    for path, said in ((tmp_path / "gone.yaml", "there is no such file"), (tmp_path, "cannot be read"), (binary, "this is no UTF-8 text")):
        with pytest.raises(BadInput, match=said):
            read(path)
