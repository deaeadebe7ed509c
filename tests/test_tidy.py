"""Style is a test: what would otherwise be said in every review.

A rule is a function that yields the offences in a file, each with its line; the table at the end names every rule by a sentence.
Beside each rule stands a text that breaks it, so that a rule that finds nothing any more is found out.
What formatting and linting can check is left to them.
"""

import ast
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sources import Source, tree

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
"""What fits a screen."""
DOCSTRING_CHARACTERS_MIN = 15
"""Less than that only repeats the module's name."""
BANNED_NAMES = {"helpers", "utils", "util", "common", "base", "manager", "misc"}
"""Names that say nothing of what is inside."""

READ = ("schemas/", "runtime/", "privacy/", "services/", "collaborator/", "cli/", "docs/", "tests/")
PUBLIC = ("schemas/", "runtime/", "privacy/")
GENERATED = ("docs/events.md", "schemas/json/")

Offence = tuple[int, str]


def long_module(source: Source) -> Iterator[Offence]:
    if len(source.lines) > MODULE_LINES_MAX:
        yield len(source.lines), f"has {len(source.lines)} lines; a module has at most {MODULE_LINES_MAX}"


def long_function(source: Source) -> Iterator[Offence]:
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines; a function has at most {FUNCTION_LINES_MAX}"


def silent_module(source: Source) -> Iterator[Offence]:
    said = ast.get_docstring(source.tree) or ""
    if len(said) < DOCSTRING_CHARACTERS_MIN or "." not in said:
        yield 1, "does not open by saying what problem it solves"


def no_public_names(source: Source) -> Iterator[Offence]:
    assigned = {
        target.id for node in source.tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)
    }
    if len(source.tree.body) > 1 and "__all__" not in assigned and not source.name.startswith("_"):
        yield 1, "does not say in __all__ what others may use"


def empty_name(source: Source) -> Iterator[Offence]:
    for part in Path(source.path).with_suffix("").parts:
        if part.strip("_") in BANNED_NAMES:
            yield 1, f"{part!r} does not say what is inside"


def swallowed_error(source: Source) -> Iterator[Offence]:
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass | ast.Continue) for line in node.body):
            broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
            explained = any("#" in line for line in source.lines[node.lineno - 1 : node.body[-1].lineno])
            expected = node.type is not None and ast.unparse(node.type).endswith("TimeoutError")  # a wait that ended, as waits do
            if broad or not (explained or expected):
                yield node.lineno, "swallows an error without saying why that is right"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            for caught in node.args:
                if ast.unparse(caught) in {"Exception", "BaseException"}:
                    yield node.lineno, "suppresses every error there is"


def empty_assertion(source: Source) -> Iterator[Offence]:
    for node in source.nodes:
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple):
            yield node.lineno, "asserts what is always true"


def aimless_test(source: Source) -> Iterator[Offence]:
    """Asserting may be left to a function of the same file."""
    functions = [node for node in source.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    checking = {function.name for function in functions if not function.name.startswith("test_") and asserts(function, set())}
    for function in functions:
        if function.name.startswith("test_") and not asserts(function, checking):
            yield function.lineno, f"{function.name} asserts nothing"


def asserts(function: ast.FunctionDef | ast.AsyncFunctionDef, checking: set[str]) -> bool:
    called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(function) if isinstance(node, ast.Call)}
    return any(isinstance(node, ast.Assert) for node in ast.walk(function)) or bool(called & ({"raises", "fail"} | checking))


MARKERS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
PLACES = re.compile(r"(?<![\w.}])/(?:root|work|tmp)/")
REGISTRIES = re.compile("python" r"hosted|pypi" r"\.org|index" "-url|find" "-links|download" r"\.pytorch")


def leftover_marker(source: Source) -> Iterator[Offence]:
    for number, line in enumerate(source.lines, 1):
        if MARKERS.search(line):
            yield number, "is marked as unfinished; finish it or say in prose what is missing"


def somebodys_machine(source: Source) -> Iterator[Offence]:
    for number, line in enumerate(source.lines, 1):
        if PLACES.search(line) or REGISTRIES.search(line):
            yield number, "names a place that only somebody's machine has"


def weightless_dependency(source: Source) -> Iterator[Offence]:
    """Every dependency that a user installs has its size beside it."""
    project = tomllib.loads(source.text)["project"]
    roles = {name: wanted for name, wanted in project.get("optional-dependencies", {}).items() if name != "test"}
    for wanted in [*project.get("dependencies", ()), *(each for every in roles.values() for each in every)]:
        number = next(number for number, line in enumerate(source.lines, 1) if f'"{wanted}"' in line)
        if not wanted.startswith("fedplane[") and not re.search(r"# [\d.]+ MB", source.lines[number - 1]):
            yield number, f"{wanted} does not say how many MB it weighs"


def kept_output(source: Source) -> Iterator[Offence]:
    """Outputs are of one machine and one run, and a difference between two versions would drown in them."""
    for number, cell in enumerate(json.loads(source.text)["cells"], 1):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield 1, f"cell {number} was kept with what it put out; clear the outputs"


@dataclass(frozen=True)
class Rule:
    """What to look for, where, and a text in which it must be found."""

    find: Callable[[Source], Iterator[Offence]]
    files: Callable[[str], bool]
    broken: str
    path: str = "schemas/fedplane/schemas/example.py"


def is_python(path: str) -> bool:
    return path.endswith(".py")


def is_read(path: str) -> bool:
    return is_python(path) and path.startswith(READ)


def is_public(path: str) -> bool:
    return is_python(path) and path.startswith(PUBLIC)


def is_test(path: str) -> bool:
    return Path(path).match("test_*.py")


def is_project(path: str) -> bool:
    return path == "pyproject.toml"


def is_notebook(path: str) -> bool:
    return path.endswith(".ipynb")


def is_written(path: str) -> bool:
    return not path.startswith(GENERATED) and path != "LICENSE"


RULES: dict[str, Rule] = {
    "a module fits a reader's head": Rule(long_module, is_python, "\n" * (MODULE_LINES_MAX + 1)),
    "a function fits a screen": Rule(long_function, is_python, "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    "a module opens by saying what it is for": Rule(silent_module, is_read, "'A module.'"),
    "a public module says what is public": Rule(no_public_names, is_public, "'A module.'\nx = 1\n"),
    "a name says what is inside": Rule(empty_name, is_python, "", path="runtime/fedplane/runtime/helpers.py"),
    "no error is swallowed": Rule(swallowed_error, is_python, "try:\n    x = 1\nexcept ValueError:\n    pass\n"),
    "no assertion is empty": Rule(empty_assertion, is_python, "assert True\n"),
    "every test asserts": Rule(aimless_test, is_test, "def test_nothing(): x = 1\n"),
    "nothing is left unfinished": Rule(leftover_marker, is_written, "# TO" "DO later\n"),
    "nothing depends on somebody's machine": Rule(somebodys_machine, is_written, "cd /ro" "ot/fedplane\n"),
    "a dependency says what it weighs": Rule(
        weightless_dependency, is_project, '[project]\ndependencies = [\n"numpy>=1",\n]\n', path="pyproject.toml"
    ),
    "a notebook is kept without outputs": Rule(
        kept_output, is_notebook, '{"cells": [{"outputs": [], "execution_count": 3}, {"source": []}]}', path="examples/some.ipynb"
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_tree_is_tidy(rule: Rule) -> None:
    offences = [f"{source.path}:{line}: {said}" for source in tree() if rule.files(source.path) for line, said in rule.find(source)]

    assert not offences, "\n" + "\n".join(offences)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_finds_what_breaks_it(rule: Rule) -> None:
    assert len(list(rule.find(Source(rule.path, rule.broken)))) == 1


def test_nothing_hides_the_portions_of_the_namespace() -> None:
    hiding = [source.path for source in tree() if source.path.endswith("fedplane/__init__.py")]

    assert hiding == []


def test_test_files_have_names_of_their_own_and_no_packages() -> None:
    tests = [Path(source.path) for source in tree() if is_test(source.path)]
    packages = {Path(source.path).parent for source in tree() if source.path.endswith("/__init__.py")}

    assert [name for name, times in Counter(path.name for path in tests).items() if times > 1] == []
    assert packages & {path.parent for path in tests} == set()
