"""The data of charts."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from nqrust.contract.vms import DesiredState, GuestReport, Vm, VmState
from nqrust.ui import history


def vm(number: int = 1, **report: object) -> Vm:
    guest = GuestReport.model_validate({"ip": "10.0.0.10", "boot_id": "b1", **report}) if report else None
    return Vm(
        id=f"v{number}",
        name=f"web{number}",
        state=VmState.running,
        desired_state=DesiredState.running,
        mac="06:4e:0:0:0:1",
        image="tiny",
        vcpus=1,
        memory_mib=256,
        disk_mib=32,
        created_at=datetime.now(timezone.utc),
        tap="tap1",
        guest=guest,
    )


@pytest.fixture(autouse=True)
def empty() -> None:
    history._samples.clear()


def test_history_takes_each_report_once() -> None:
    first = vm(uptime_seconds=10, cpu_percent=50, memory_total_kib=100, memory_available_kib=25, net_rx_bytes=1000)
    history.remember([first, first], now=1.0)
    (sample,) = history.of(first)
    assert (sample.cpu, sample.memory, sample.rx) == (50, 75, 0)


def test_rates_come_from_two_reports() -> None:
    history.remember([vm(uptime_seconds=10, net_rx_bytes=1000, net_tx_bytes=9)], now=1.0)
    later = vm(uptime_seconds=25, net_rx_bytes=16000, net_tx_bytes=9)
    history.remember([later], now=16.0)
    assert (history.of(later)[-1].rx, history.of(later)[-1].tx) == (1000.0, 0.0)


def test_history_restarts_with_a_new_boot() -> None:
    history.remember([vm(uptime_seconds=500)], now=1.0)
    again = vm(uptime_seconds=3, boot_id="b2")
    history.remember([again], now=2.0)
    assert len(history.of(again)) == 1


def test_without_a_guest_there_is_nothing() -> None:
    history.remember([vm()])
    assert history.of(vm()) == []


def test_history_has_a_maximum_length() -> None:
    for number in range(history.VMS + 50):
        history.remember([vm(number, uptime_seconds=1)], now=1.0)
    assert len(history._samples) == history.VMS
    for second in range(history.SAMPLES + 10):
        history.remember([vm(9999, uptime_seconds=second + 1)], now=1.0)
    assert len(history.of(vm(9999, uptime_seconds=1))) == history.SAMPLES
