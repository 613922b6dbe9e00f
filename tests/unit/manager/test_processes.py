"""What the process of a VM is, from its image and the request."""

from __future__ import annotations

import pytest

from nqrust.contract.images import ImageProcess
from nqrust.manager.errors import Invalid
from nqrust.manager.vms.processes import LARGEST_COMMAND, complete

IMAGE = ImageProcess(
    entrypoint=["/entry"], command=["serve"], env=["A=1", "B=2"], user="web", directory="/srv", stop_signal="SIGQUIT"
)


def test_the_image_decides_unless_the_request_does() -> None:
    found = complete("web", IMAGE, None, ["B=3", "C=4=5"])
    assert found is not None
    assert (found.argv, found.env) == (["/entry", "serve"], ["A=1", "B=3", "C=4=5"])
    assert (found.user, found.directory, found.stop_signal) == ("web", "/srv", "SIGQUIT")


@pytest.mark.parametrize(("command", "argv"), [(["x", "y"], ["/entry", "x", "y"]), ([], ["/entry"])])
def test_a_command_keeps_the_entrypoint(command: list[str], argv: list[str]) -> None:
    found = complete("web", IMAGE, command, [])
    assert found is not None and found.argv == argv


@pytest.mark.parametrize(
    ("given", "command", "env"),
    [(None, ["x"], []), (None, None, ["A=1"]), (ImageProcess(), None, []), (ImageProcess(command=["x"]), [], [])],
)
def test_what_no_guest_can_run_is_refused(given: ImageProcess | None, command: list[str] | None, env: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        complete("tiny", given, command, env)
    assert refused.value.code == "NQR-IMG-045"


def test_an_image_with_an_init_has_no_process() -> None:
    assert complete("tiny", None, None, []) is None


def test_a_command_is_bounded_because_lists_have_it() -> None:
    words = ["x" * (LARGEST_COMMAND - len("/entry") - 1), "y"]
    assert complete("web", IMAGE, words, []) is not None
    with pytest.raises(Invalid, match="more than 65536 characters"):
        complete("web", IMAGE, [*words, "z"], [])
