"""The Job in which an app's own server works on the hub: our driver, and the user's image beside it.

It is in the namespace of the resource, where the user's Secrets for images are. What its pod is made of is said in `pods`.
It is made when its run has clusters, and deleted when the run has ended, as works are. It is never changed.
What is wrong with a Job that does not start is said here, too. When it is made and given up is told in `driving`.
"""

from collections.abc import Mapping
from typing import Any

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.credentials import check_address
from fedplane.scheduler.pods import Outfit, driver_pod
from fedplane.scheduler.standing import Bound, Stage, at_once, to_accept, to_start
from fedplane.scheduler.works import BACKOFF_LIMIT, JOB_SECONDS_MAX, LABELS, RUN_LABEL
from fedplane.schemas.names import NAME_CHARACTERS_MAX
from fedplane.schemas.resources import APP_STRATEGY, FederatedLearning

__all__ = ["DRIVER_LABELS", "TROUBLES", "driver_job", "has_driver", "objection"]

DRIVER_LABELS = {**LABELS, "app.kubernetes.io/name": "driver"}
"""By which drivers' Jobs are told from those that keep models, and by which network policies know their pods."""

PREFIX = "driver-"
"""Before the run's id, since the Job that keeps its model is named as the run."""

KEPT_SECONDS = 24 * 3600
"""How long a finished Job stays where no scheduler is left to delete it."""

TROUBLES: Mapping[Stage, Bound] = {
    Stage.REFUSED: Bound("not-made", to_accept, "the hub did not take the driver's Job for {seconds:g} s"),
    Stage.UNREACHED: Bound("not-made", to_start, "the driver's Job could not be put on the hub for {seconds:g} s"),
    Stage.PENDING: Bound(
        "not-started", to_start,
        f"no pod of the driver's Job was ready for {{seconds:g}} s; see kubectl get events -A, and describe pods -A -l {RUN_LABEL}={{run}}",
    ),
    Stage.ENDED: Bound("ended", to_accept, "the driver's Job has ended and the run has not"),  # the log may be read a moment later
    Stage.FAILED: Bound("failed", at_once, "the driver's Job has failed"),
}  # fmt: skip
"""What each stage of a Job means when it lasts: the run cannot go on. WORKING is not here: the driver itself ends the run."""


def has_driver(resource: FederatedLearning) -> bool:
    """Whether the app's own server decides in the run."""
    return resource.spec.strategy.name == APP_STRATEGY


def objection(resource: FederatedLearning) -> str | None:
    """Why there can be no driver on a hub, in a sentence that says what to change; None if there can, or if none is needed."""
    if has_driver(resource) and not _image(resource):
        return f"spec.strategy.name is {APP_STRATEGY}, and no image has the app's own server; set spec.server.image or spec.client.image"
    return None


def driver_job(run: str, resource: FederatedLearning, outfit: Outfit) -> dict[str, Any]:
    """The Job that runs the app's own server. Raises BadInput when there cannot be one, with what to change."""
    if wrong := objection(resource):
        raise BadInput(wrong)
    if not outfit.image or not outfit.bus_url:
        raise BadInput("the scheduler does not know what drives apps: set its FEDPLANE_COLLABORATOR_IMAGE and FEDPLANE_INSIDE_URL")
    check_address("FEDPLANE_INSIDE_URL", outfit.bus_url, secure=outfit.secure)
    labels = {**DRIVER_LABELS, RUN_LABEL: run}
    name = PREFIX + run[len(PREFIX) - NAME_CHARACTERS_MAX :]  # a long id loses its beginning: its end is what tells it from others
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": resource.metadata.namespace, "labels": labels},
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": JOB_SECONDS_MAX,  # only the server knows how many rounds there are
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": driver_pod(run, resource, _image(resource), outfit)},
        },
    }


def _image(resource: FederatedLearning) -> str:
    return resource.spec.server.image or resource.spec.client.image
