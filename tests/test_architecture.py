"""The architecture as tests: who may import what, which modules may touch the world, where subjects are written.

Which layer may import which, and which module a library, is said in `.importlinter`.
Here stands what it cannot say, because it holds for every module that nobody has listed: a module is pure unless it is named below.
A pure module computes with what it is given.
It reads no clock, no file, no environment and no random numbers, starts nothing and waits for nothing, so its tests need no world either.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from sources import ROOT, tree

ROOTS = (
    "schemas", "runtime", "privacy", "services/scheduler", "services/aggregator", "services/status", "services/authorizer", "collaborator",
    "cli",
)  # fmt: skip

IMPURE = {
    "fedplane.schemas.generate": "writes the files that are derived from the vocabulary",
    "fedplane.runtime.certificates": "makes keys, which are chance",
    "fedplane.runtime.health": "answers a supervisor",
    "fedplane.runtime.hub": "opens the API server",
    "fedplane.runtime.kubernetes": "speaks to an API server",
    "fedplane.runtime.memory": "waits: the whole bus in one process",
    "fedplane.runtime.memory_cluster": "waits: an API server's objects in one process",
    "fedplane.runtime.nats": "speaks to the server",
    "fedplane.runtime.replica": "waits and reads the clock: the one loop; its actions are plain data, so cores may import it",
    "fedplane.runtime.service": "handles signals, logs, opens the bus",
    "fedplane.runtime.settings": "reads the environment",
    "fedplane.runtime.exporting": "loads what sends",
    "fedplane.runtime.otlp": "sends spans and values",
    "fedplane.runtime.stating": "tells of facts that are stated",
    "fedplane.runtime.telemetry": "reads the clock, and hands on to what sends",
    "fedplane.scheduler.delivering": "writes works on a hub",
    "fedplane.scheduler.depositing": "makes Jobs and claims on a hub",
    "fedplane.scheduler.exposing": "makes and deletes listeners on a hub",
    "fedplane.scheduler.informer": "watches objects of a hub",
    "fedplane.scheduler.launching": "makes and deletes drivers' Jobs on a hub",
    "fedplane.scheduler.main": "composes the scheduler",
    "fedplane.scheduler.settings": "is read from the environment",
    "fedplane.scheduler.tracing": "tells operators of placements",
    "fedplane.scheduler.tending": "tells the log of a hub, and states what its clusters offer",
    "fedplane.scheduler.upkeep": "writes objects on a hub",
    "fedplane.authorizer.admission.listening": "answers an API server",
    "fedplane.authorizer.admission.main": "composes the guard",
    "fedplane.authorizer.admission.settings": "is read from the environment",
    "fedplane.authorizer.answering": "tells operators who was let in",
    "fedplane.authorizer.ending": "has connections ended, and tells operators of it",
    "fedplane.authorizer.listening": "makes readers for others",
    "fedplane.authorizer.main": "composes the authorizer",
    "fedplane.authorizer.policing": "has clusters thrown out, and their chunks removed",
    "fedplane.authorizer.settings": "is read from the environment",
    "fedplane.authorizer.trusting": "reads authorities again when their files change",
    "fedplane.aggregator.folding": "streams chunks",
    "fedplane.aggregator.joining": "reads models and updates piece by piece",
    "fedplane.aggregator.reading": "reads chunks ahead",
    "fedplane.aggregator.rebasing": "reads the models that updates began with",
    "fedplane.aggregator.unmasking": "streams chunks",
    "fedplane.aggregator.working": "leases work and does it",
    "fedplane.aggregator.main": "composes the aggregator",
    "fedplane.aggregator.settings": "is read from the environment",
    "fedplane.aggregator.team": "starts threads, and asks how many there may be",
    "fedplane.aggregator.telling": "tells operators of rounds and of the queue",
    "fedplane.status.main": "composes the status service",
    "fedplane.status.settings": "is read from the environment",
    "fedplane.status.page.files": "reads the files of the page",
    "fedplane.status.page.listening": "answers browsers",
    "fedplane.status.page.main": "composes the page by itself",
    "fedplane.status.page.serving": "waits, and reads the clock: the page's stream",
    "fedplane.status.page.settings": "is read from the environment",
    "fedplane.status.archiving": "reads and purges the log, writes archives",
    "fedplane.status.kube": "writes objects' status and Events",
    "fedplane.status.showing": "puts views",
    "fedplane.collaborator.advertising": "says again and again what the cluster offers",
    "fedplane.collaborator.apps": "starts and kills the user's app",
    "fedplane.collaborator.beside": "meets an app in another container",
    "fedplane.collaborator.bundles": "unpacks an app's file",
    "fedplane.collaborator.children": "starts and ends processes",
    "fedplane.collaborator.driver.driving": "runs apps' servers and answers them",
    "fedplane.collaborator.driver.files": "reads what servers ask and writes what they are given",
    "fedplane.collaborator.driver.main": "composes the driver",
    "fedplane.collaborator.driver.settings": "is read from the environment",
    "fedplane.collaborator.frameworks.__main__": "is the runner: loads and runs the user's code",
    "fedplane.collaborator.environments": "makes environments with pip, and locks them",
    "fedplane.collaborator.frameworks.asking": "waits for threads, and writes what they ask",
    "fedplane.collaborator.frameworks.flower": "runs a Flower app's client",
    "fedplane.collaborator.frameworks.flower_project": "loads a Flower app",
    "fedplane.collaborator.frameworks.flower_records": "speaks Flower",
    "fedplane.collaborator.frameworks.flower_server": "runs a Flower app's server",
    "fedplane.collaborator.frameworks.openfl": "loads and runs an OpenFL workspace",
    "fedplane.collaborator.frameworks.openfl_plan": "reads an OpenFL workspace's plan",
    "fedplane.collaborator.frameworks.openfl_state": "reads and writes what an OpenFL workspace keeps",
    "fedplane.collaborator.frameworks.functions": "loads and runs an app's functions",
    "fedplane.collaborator.frameworks.keeping": "keeps a process for an app",
    "fedplane.collaborator.frameworks.other": "runs a program, reads and writes a request's files",
    "fedplane.collaborator.frameworks.private": "draws noise, and reads and writes what it has cost",
    "fedplane.collaborator.frameworks.sklearn": "loads and runs an app's functions on scikit-learn's estimators",
    "fedplane.collaborator.frameworks.tensors": "reads and writes tensors in files",
    "fedplane.collaborator.frameworks.torch": "loads and runs an app's functions on PyTorch's modules",
    "fedplane.collaborator.frameworks.updates": "reads and writes an update's file",
    "fedplane.collaborator.frameworks.xgboost": "loads and runs an app's functions on XGBoost's boosters",
    "fedplane.collaborator.frameworks.working": "reads a request's files and writes its answer's",
    "fedplane.collaborator.installing": "puts the runner into a directory",
    "fedplane.collaborator.main": "composes the collaborator",
    "fedplane.collaborator.errands": "waits until an answer is wanted, or of no use any more",
    "fedplane.collaborator.masking": "draws secrets, waits, and sends masked updates",
    "fedplane.collaborator.pool": "keeps apps warm",
    "fedplane.collaborator.recipes": "reads what an app asks for",
    "fedplane.collaborator.pythons": "starts apps' processes",
    "fedplane.collaborator.settings": "is read from the environment",
    "fedplane.collaborator.training": "carries out tasks",
    "fedplane.collaborator.fetching": "keeps a run's model on disk",
    "fedplane.collaborator.transfers": "moves models and updates between files and the bus",
    "fedplane.collaborator.work": "has the app work in a directory",
    "fedplane.cli": "is a shell: terminals, files, processes",
}
"""Every module, or package, that touches the world, and how. A new line here is a decision; a new pure module needs none."""

PURE_LIBRARIES = {
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "contextlib", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "hashlib", "heapq", "inspect", "ipaddress", "itertools", "json", "math", "operator", "re", "string", "struct",
    "textwrap", "types", "typing", "zlib",
    "blake3", "cloudevents", "cryptography", "dp_accounting", "ml_dtypes", "numba", "numpy", "pydantic", "pydantic_core", "re2",
}  # fmt: skip
"""Libraries that compute and do nothing else."""

DATA_OF_THE_LOOP = "fedplane.runtime.replica"

IMPURE_CALLS = {"open", "print", "input", "breakpoint"}
CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}

SUBJECTS = {
    "fedplane.schemas.access_facts": "the vocabulary",
    "fedplane.schemas.facts": "the vocabulary",
    "fedplane.schemas.masking_facts": "the vocabulary",
    "fedplane.schemas.round_facts": "the vocabulary",
    "fedplane.schemas.run_facts": "the vocabulary",
    "fedplane.schemas.subjects": "bytes and tasks, which are no facts",
    "fedplane.runtime.nats.streams": "which stream keeps which subjects",
}
"""The modules in which a subject may be written."""

ENVIRONMENT = (
    "fedplane.cli",
    "fedplane.collaborator.driver.main",
    "fedplane.collaborator.frameworks.__main__",
    "fedplane.collaborator.main",
)
"""Who reads the environment other than through `runtime.settings`: the shells that hand one to a process they start."""


LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


@dataclass(frozen=True)
class Module:
    """One module of the product."""

    name: str
    path: str
    package: str
    tree: ast.Module

    def imports(self) -> Iterator[tuple[int, str]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield from ((node.lineno, self._meant(node.module, alias.name)) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, ".".join(filter(None, (self.package, node.module or alias.name)))) for alias in node.names)

    def _meant(self, module: str, name: str) -> str:
        return f"{module}.{name}" if f"{module}.{name}" in names() else module


@cache
def names() -> frozenset[str]:
    return frozenset(module_name(source.path, root) for source in tree() for root in ROOTS if source.path.startswith(f"{root}/fedplane/"))


def module_name(path: str, root: str) -> str:
    parts = Path(path).relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for source in tree():
        for root in ROOTS:
            if source.path.startswith(f"{root}/fedplane/") and source.path.endswith(".py"):
                name = module_name(source.path, root)
                package = name if source.path.endswith("__init__.py") else name.rpartition(".")[0]
                found.append(Module(name, source.path, package, source.tree))
    return tuple(found)


def is_in(name: str, listed: str) -> bool:
    return name == listed or name.startswith(listed + ".")


def is_impure(name: str) -> bool:
    return any(is_in(name, listed) for listed in IMPURE)


def impurities(module: Module) -> Iterator[str]:
    """Where the module touches the world, or imports what does."""
    for line, imported in module.imports():
        if imported.startswith("fedplane."):
            if is_impure(imported) and imported != DATA_OF_THE_LOOP:
                yield f"{module.path}:{line}: imports {imported}, which {IMPURE.get(imported, 'touches the world')}"
        elif imported.partition(".")[0] not in PURE_LIBRARIES:
            yield f"{module.path}:{line}: imports {imported}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"{module.path}:{node.lineno}: calls {node.func.id}"
        if isinstance(node, ast.Attribute) and (ast.unparse(node) in CLOCKS or node.attr == "random"):
            yield f"{module.path}:{node.lineno}: uses {ast.unparse(node)}"


def test_a_module_is_pure_unless_it_is_listed() -> None:
    found = [impurity for module in modules() if not is_impure(module.name) for impurity in impurities(module)]

    assert not found, "\n" + "\n".join(found)


def test_a_module_that_is_listed_touches_the_world() -> None:
    impure = {module.name for module in modules() if any(impurities(module))}

    assert [listed for listed in IMPURE if not any(is_in(name, listed) for name in impure)] == []


@pytest.mark.parametrize(
    "line",
    ["import asyncio", "from os import environ", "import fedplane.runtime.nats", "x = open('f')", "now = datetime.now", "numpy.random"],
)
def test_an_impurity_is_found(line: str) -> None:
    assert len(list(impurities(Module("fedplane.new", "new.py", "fedplane", ast.parse(line))))) == 1


def test_subjects_are_written_in_one_place() -> None:
    found = [f"{module.path}:{line}: {text!r}" for module in modules() if module.name not in SUBJECTS for line, text in subjects(module)]

    assert not found, "\n" + "\n".join(found)


def test_the_places_where_subjects_are_written_write_some() -> None:
    assert {module.name for module in modules() if any(subjects(module))} == set(SUBJECTS)


def subjects(module: Module) -> Iterator[tuple[int, str]]:
    spoken = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}  # docstrings may speak of subjects
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "fed.v1" in node.value and id(node) not in spoken:
            yield node.lineno, node.value


def test_only_main_and_settings_read_the_environment() -> None:
    found = [
        f"{module.path}:{node.lineno}: {ast.unparse(node)}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
        if not any(is_in(module.name, allowed) for allowed in ENVIRONMENT)
    ]

    assert not found, "\n" + "\n".join(found)


def test_imports_follow_the_contracts() -> None:
    """In a process of its own: it sets up logging anew, which closes the output of handlers that other libraries have made here."""
    linted = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True, check=False)

    assert linted.returncode == 0, linted.stdout + linted.stderr
