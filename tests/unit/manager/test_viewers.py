"""Places for consoles and sessions in guests."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from nqrust.contract.auth import Role
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.viewers import OF_A_HOST, OF_A_USER, OF_A_VM, OF_ALL, Viewers
from nqrust.manager.errors import TooManyViewers


def _user(name: str) -> Principal:
    return Principal("user", name, Role.operator, user_id=f"id-{name}", token_id=f"session-{name}")


def _token(name: str, owner: str | None) -> Principal:
    return Principal("token", f"token:{name}", Role.operator, user_id=owner, token_id=f"id-of-{name}")


def _opened(viewers: Viewers, stack: ExitStack, who: Principal, vm: str, host: str, wanted: int = 1000) -> int:
    for number in range(wanted):
        try:
            stack.enter_context(viewers.place(who, vm.format(number), host))
        except TooManyViewers as error:
            assert (error.status, error.code) == (429, "NQR-API-152")
            return number
    return wanted


def test_a_user_opens_few_and_its_tokens_none_besides() -> None:
    viewers = Viewers()
    with ExitStack() as stack:
        assert _opened(viewers, stack, _user("ann"), "vm{}", "h1") == OF_A_USER == 64
        assert _opened(viewers, stack, _token("robot", "id-ann"), "vm{}", "h2") == 0
        with pytest.raises(TooManyViewers, match="You have 64 open"):
            viewers.check(_token("robot", "id-ann"), "other", None)
        assert _opened(viewers, stack, _token("of the installation", None), "vm{}", "h1", 3) == 3
        assert _opened(viewers, stack, _user("bob"), "vm{}", "h1", 3) == 3
    assert not viewers._open, "all places are free again"


def test_a_vm_a_host_and_the_manager_have_bounds_for_all_users() -> None:
    viewers = Viewers()
    with ExitStack() as stack:
        assert _opened(viewers, stack, _user("ann"), "web1", "h1") == OF_A_VM
        assert _opened(viewers, stack, _user("bob"), "web1", "h1") == 0
        others = sum(_opened(viewers, stack, _user(f"u{number}"), "vm{}", "h1") for number in range(10))
        assert others + OF_A_VM == OF_A_HOST < 500 - 100, "the agent keeps connections for the manager's client"
        rest = sum(_opened(viewers, stack, _user(f"w{number}"), "vm{}-" + str(number), "h2") for number in range(10))
        assert OF_A_HOST + rest == OF_ALL < 500
