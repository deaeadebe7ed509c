"""What an app's environment is made of, as its own files say."""

from pathlib import Path

import pytest

from fedplane.collaborator.recipes import Python, Recipe, recipe_of
from fedplane.runtime.errors import BadInput

PYTHON = Python((3, 11, 7), "cpython linux-x86_64")
WANTED = ("openfl>=1.9,<1.10", "numpy<2.4")


def recipe(directory: Path, **files: str) -> Recipe:
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return recipe_of(directory, "openfl", WANTED, PYTHON)


def refusal(directory: Path, **files: str) -> str:
    with pytest.raises(BadInput) as refused:
        recipe(directory, **files)
    return str(refused.value)


def test_a_workspace_gets_what_its_requirements_and_its_framework_ask_for(tmp_path: Path) -> None:
    made = recipe(tmp_path, requirements_txt="# a CNN\n\n  torch==2.7.0  # CPU\n--pre\n")

    assert made == Recipe("openfl", PYTHON, ("torch==2.7.0", "--pre", *WANTED))


def test_a_project_gets_its_dependencies_and_not_what_stands_in_a_requirements_file_beside_it(tmp_path: Path) -> None:
    project = '[project]\nname = "app"\nrequires-python = ">=3.11"\ndependencies = ["pandas>=2"]\n'

    assert recipe(tmp_path, pyproject_toml=project, requirements_txt="torch") == Recipe("openfl", PYTHON, ("pandas>=2", *WANTED))


def test_an_app_that_asks_for_nothing_gets_its_framework(tmp_path: Path) -> None:
    assert recipe(tmp_path) == Recipe("openfl", PYTHON, WANTED)


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        ("", ("trees>=1,<4", "also")),
        ("trees-cpu\n", ("trees-cpu", "trees-cpu>=1,<4", "also")),
        ("Trees_CPU >=2; python_version > '3'\n", ("Trees_CPU >=2; python_version > '3'", "trees-cpu>=1,<4", "also")),
        ("trees\n", ("trees", "trees>=1,<4", "also")),
    ],
)
def test_an_app_that_asks_for_another_form_of_its_framework_gets_that_alone(tmp_path: Path, asked: str, lines: tuple[str, ...]) -> None:
    (tmp_path / "requirements.txt").write_text(asked)

    assert recipe_of(tmp_path, "trees", ("trees>=1,<4", "also"), PYTHON, ("trees-cpu>=1,<4",)).lines == lines


def test_who_asks_for_the_same_gets_the_same(tmp_path: Path) -> None:
    first = recipe(tmp_path, requirements_txt="torch\n")

    assert first.name.startswith("openfl-")
    assert recipe(tmp_path, requirements_txt="torch  # as ever\n").name == first.name
    assert recipe(tmp_path, requirements_txt="torch<3\n").name != first.name
    assert recipe_of(tmp_path, "openfl", WANTED, Python((3, 12, 0), PYTHON.build)).name != first.name


@pytest.mark.parametrize("line", ["-r more.txt", "--constraint limits.txt", "-e .", ".", "./wheels/a.whl", "/opt/a.whl", "file:///a"])
def test_what_depends_on_another_file_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    said = f"{tmp_path / 'requirements.txt'}, line 2: {line!r} depends on another file; write here what it asks for"

    assert refusal(tmp_path, requirements_txt=f"torch\n{line}\n") == said


def test_a_project_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"

    assert refusal(tmp_path, pyproject_toml="[project").startswith(f"{file} is no TOML: ")
    assert refusal(tmp_path, pyproject_toml='[project]\ndependencies = "torch"') == (
        f"{file} has a [project] whose dependencies are no list; mend it"
    )
    assert refusal(tmp_path, pyproject_toml="#" * 1_000_001) == f"{file} has more than 1000000 bytes; no app needs as many packages"


def test_an_app_for_another_python_is_refused_with_the_file_and_the_mend(tmp_path: Path) -> None:
    assert refusal(tmp_path, pyproject_toml='[project]\nrequires-python = ">=3.12"') == (
        f"{tmp_path / 'pyproject.toml'} requires Python >=3.12, and environments are made with 3.11.7 here; "
        "set FEDPLANE_ENVIRONMENTS_PYTHON to one that fits"
    )
    assert refusal(tmp_path, pyproject_toml='[project]\nrequires-python = "new"') == (
        "requires-python has 'new', which is no comparison with a version; write it as in >=3.11,<3.13"
    )


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ("openfl", False), ("OpenFL>=1.5", False), ("openfl[gpu]~=1.9.1", False), ("openfl ==1.9.*,!=1.9", False), ("openfl>1.9", False),
        ("openfl<1.9", True), ("openfl==1.8.1", True), ("openfl (>=1.10)", True), ("openfl>1.9.1,<1.9.1", True),
        ("numpy<1", False), ("numpy>=2.4", True), ("numpy_financial>=2.4", False), ("pandas<1,>2", False),
        ("openfl<1.9; python_version < '3'", False), ("openfl @ https://example.org/openfl.whl", False), ("openfl==1.8rc1", False),
    ],
)  # fmt: skip
def test_an_app_for_versions_of_which_its_framework_is_run_with_none_is_refused(tmp_path: Path, asked: str, refused: bool) -> None:
    wanted = WANTED[asked.startswith("numpy")]
    for file, text in (("requirements_txt", f"torch\n{asked}\n"), ("pyproject_toml", f'[project]\ndependencies = ["{asked}"]')):
        if refused:
            said = f"{tmp_path / file.replace('_', '.')} asks for {asked!r}, and its framework is run with {wanted}; "
            assert refusal(tmp_path, **{file: text}) == said + "change that line, or leave it out"
        else:
            assert asked in recipe(tmp_path, **{file: text}).lines


def test_an_app_that_is_not_there_is_missed(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"there is no app in {tmp_path / 'nowhere'}; set FEDPLANE_APP to where this machine has it"


@pytest.mark.parametrize(
    ("needed", "fits"),
    [
        ("", True), (">=3.10, <3.13", True), (">=3.11.8", False), ("<3.11", False), ("<=3.11.7", True), (">3.11", True),
        ("==3.11.*", True), ("==3.11", False), ("!=3.11.*", False), ("!=3.11.6", True),
        ("~=3.10", True), ("~=3.11.8", False), ("~=3.10.1", False),
    ],
)  # fmt: skip
def test_a_comparison_with_pythons_version_means_what_packaging_says(tmp_path: Path, needed: str, fits: bool) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[project]\nrequires-python = "{needed}"')
    try:
        recipe_of(tmp_path, "openfl", (), PYTHON)
    except BadInput:
        assert not fits
    else:
        assert fits
