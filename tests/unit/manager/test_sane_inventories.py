"""Reports of one host that must not affect the VMs of others."""

from __future__ import annotations

from datetime import datetime, timezone

from nqrust.contract.agent import Inventory, TapStatus, VmStatus
from nqrust.manager.work.reconciler import _sane


def test_ids_that_no_vm_has_and_numbers_that_no_row_holds_are_left_out() -> None:
    vms = [VmStatus(id=one, state="running", scope="", memory_mib=2**40) for one in ("v1", "a\0b", "x" * 65, "../etc")]
    taps = [TapStatus(name=f"t{n}", vm_id=one, bridge=None, up=True) for n, one in enumerate((None, "v1", "a\0b"))]
    found = _sane(Inventory(host_id="h1", boot_id="b", time=datetime.now(timezone.utc), vms=vms, taps=taps, volumes=[]))
    assert [(vm.id, vm.memory_mib) for vm in found.vms] == [("v1", None)]
    assert [tap.vm_id for tap in found.taps] == [None, "v1"]
