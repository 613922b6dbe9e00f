"""nqr run: what it prints, and what it makes of its options."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.cli.vm.running import Output, _made_up, _variables
from nqrust.contract.vms import VmCreate
from nqrust.installer.engine.errors import UsageError

LOG = "boot\r\nnqr-init: started sh\r\none\r\nnqr-in\r\ntwo\rthreenqr-init: ended with code 7\r\n[  8.5] reboot: Power down\r\n"
SHOWN = "one\nnqr-in\ntwo\rthree"


@given(st.lists(st.integers(0, len(LOG)), max_size=8))
def test_the_output_is_whole_wherever_the_log_is_cut(cuts: list[int]) -> None:
    shown = Output()
    assert "".join(shown.more(LOG[:cut]) for cut in [*sorted(cuts), len(LOG)]) == SHOWN


def test_output_appears_before_its_line_is_complete() -> None:
    shown = Output()
    assert [shown.more("nqr-init: started sh\r\nPassword? "), shown.more("nqr-init: started sh\r\nPassword? nqr")] == [
        "Password? ",
        "",
    ]


def test_a_log_that_was_cut_goes_on() -> None:
    shown = Output()
    first = "nqr-init: started sh\n" + "".join(f"line {number}\n" for number in range(9000))
    whole = shown.more(first)
    assert whole + shown.more(first[-65_536:] + "more\n") == first.partition("\n")[2] + "more\n"


def test_variables_come_from_the_file_the_options_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").write_text("# comment\nA=1\n\nB=x = y\n")
    monkeypatch.setenv("SECRET", "hidden")
    monkeypatch.delenv("ABSENT", raising=False)
    found = _variables(["A=2", "SECRET", "ABSENT", "EMPTY="], str(tmp_path / "env"))
    assert found == ["A=1", "B=x = y", "A=2", "SECRET=hidden", "EMPTY="]


@pytest.mark.parametrize("wrong", ["=x", "", "a\0b"])
def test_what_is_no_variable_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError) as refused:
        _variables([wrong], None)
    assert refused.value.code == "NQR-USE-003"


@pytest.mark.parametrize("image", ["nginx-alpine", "7zip-latest", "a.b_c-1", "x" * 64])
def test_a_made_up_name_is_one_of_a_vm(image: str) -> None:
    assert VmCreate(name=_made_up(image), image="x").name
