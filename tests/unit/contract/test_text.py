"""Messages of pydantic, as people read them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nqrust.contract.text import fault
from nqrust.contract.vms import VmCreate
from nqrust.ui.forms import complaint


def test_messages_of_validators_come_without_a_prefix() -> None:
    with pytest.raises(ValidationError) as caught:
        VmCreate(name="web1", image="tiny", user_data="x")
    (error,) = caught.value.errors()
    assert error["msg"].startswith("Value error, ")
    assert fault(error["msg"]) == error["msg"].removeprefix("Value error, ")
    assert complaint(caught.value) == f"user data: {fault(error['msg'])}"
