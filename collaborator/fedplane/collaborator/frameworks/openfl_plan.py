"""The plan of an OpenFL workspace, as far as a federation by fedplane does what it says.

OpenFL itself reads it, with the defaults that it names. What the run changes is put into it then, and what nobody here would do is refused.
What is done with the tasks that are left is the business of `openfl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from openfl.federated import Plan

from . import Unanswerable

__all__ = ["PLAN", "Task", "plan_of", "tasks_of", "treatment_of"]

PLAN = Path("plan/plan.yaml")
_COLLABORATORS = Path("plan/cols.yaml")
_DATA = Path("plan/data.yaml")
"""Where `fx workspace create` puts them."""

_TREATMENTS = ("RESET", "CONTINUE_LOCAL", "CONTINUE_GLOBAL")
"""What OpenFL can do with an optimizer's state from round to round; the first is its collaborator's default."""

_AGGREGATION = "openfl.interface.aggregation_functions.WeightedAverage"
"""What a federation by fedplane can stand for; which strategy it is says the resource."""


class Task(NamedTuple):
    """A task of the plan: the task runner's method, and what it is given besides the model."""

    name: str
    function: str
    kwargs: Mapping[str, Any]

    @property
    def validates(self) -> str:
        """Which model it validates, "global" or "local"; empty if it trains."""
        return str(self.kwargs.get("apply", ""))


def plan_of(overrides: Mapping[str, Any]) -> Any:
    """The workspace's plan, with what the run changes in it. Raises Unanswerable."""
    if not PLAN.exists():
        raise Unanswerable("load-failed", f"{Path.cwd()} holds no OpenFL workspace: there is no {PLAN}")
    try:
        plan = Plan.parse(PLAN, *(path if path.exists() else None for path in (_COLLABORATORS, _DATA)))
    except Exception as error:  # OpenFL raises whatever a missing key, a wrong type or a line of YAML leads to
        said = f"the plan cannot be read: {type(error).__name__}: {error}; mend {PLAN}, {_COLLABORATORS} or {_DATA}"
        raise Unanswerable("load-failed", said) from error
    for path, value in overrides.items():
        *sections, last = path.split(".")
        part: Any = plan.config
        for section in sections:
            part = part.get(section) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            raise Unanswerable("load-failed", f"spec.config sets {path!r}, which {PLAN} does not have; it may only change what is there")
        part[last] = value
    _refuse(plan.config)
    return plan


def _refuse(config: dict[str, Any]) -> None:
    """Raises Unanswerable if the plan wants what a federation by fedplane does not do."""
    if config["aggregator"]["settings"].get("secure_aggregation"):
        raise Unanswerable("not-supported", f"{PLAN} asks for secure_aggregation, and updates are not masked here; set it to false")
    if "connector" in config:
        raise Unanswerable("not-supported", f"{PLAN} connects to another framework; submit that framework's app itself")
    for name, task in config.get("tasks", {}).items():
        kind = (task.get("aggregation_type") or {}).get("template", _AGGREGATION) if isinstance(task, dict) else _AGGREGATION
        if kind != _AGGREGATION:
            mend = f"set spec.strategy, and tasks.{name}.aggregation_type.template in spec.config to {_AGGREGATION}"
            raise Unanswerable(
                "not-supported", f"task {name!r} asks for the aggregation {kind}, which is not the workspace's to say; {mend}"
            )


def treatment_of(plan: Any) -> str:
    """What becomes of an optimizer from round to round. Raises Unanswerable."""
    treatment = plan.config.get("collaborator", {}).get("settings", {}).get("opt_treatment", _TREATMENTS[0])
    if treatment not in _TREATMENTS:
        raise Unanswerable("load-failed", f"{PLAN} has the opt_treatment {treatment!r}; it is one of {', '.join(_TREATMENTS)}")
    return str(treatment)


def tasks_of(plan: Any) -> list[Task]:
    """The plan's tasks; of those that it has, the ones that its assigner hands out, if it says which."""
    assigned = set(_assigned(plan.config.get("assigner", {}).get("settings", {})))
    return [
        Task(name, task["function"], task.get("kwargs") or {})
        for name, task in plan.config.get("tasks", {}).items()
        if isinstance(task, dict) and "function" in task and (not assigned or name in assigned)
    ]


def _assigned(settings: dict[str, Any]) -> Iterator[str]:
    for group in settings.get("task_groups", ()):
        yield from group.get("tasks", ())
