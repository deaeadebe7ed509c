"""What a collaborator for one run is told, and that what cannot be is refused when it starts."""

import pytest
from pydantic import ValidationError

from fedplane.collaborator.settings import CollaboratorSettings


def test_an_app_is_a_child_and_every_run_is_served_unless_something_else_is_said() -> None:
    settings = CollaboratorSettings(cluster="c1", run="", app_socket="")

    assert (settings.run, settings.app_socket) == (CollaboratorSettings(cluster="c1").run, CollaboratorSettings(cluster="c1").app_socket)
    assert (settings.run, settings.app_socket) == ("", "")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"app_socket": "/shared/app.sock"}, "an app in a container of its own serves one run; set FEDPLANE_RUN"),
        ({"app_socket": "/" + "x" * 107, "run": "r1"}, "a socket's path has at most 107 bytes"),
        ({"run": "*"}, "String should match pattern"),
    ],
    ids=["a socket for every run", "a path that is too long", "a run that is no name"],
)
def test_what_cannot_be_is_refused(told: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CollaboratorSettings(cluster="c1", **told)
