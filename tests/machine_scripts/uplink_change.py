"""Plan, apply and restore the change that puts a card into a bridge, without a guard: the test itself controls it.

uplink_change.py SOURCES plan NIC BRIDGE | apply | restore
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from nqrust.host.local import LocalHost
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.supervisor.registry import alarms_of
from nqrust.installer.uplink import registry
from nqrust.installer.verbs.network import undo
from nqrust.installer.verbs.network.guard.change import NetworkChange
from nqrust.installer.verbs.network.own_card import OwnCard

SAVED = Path("/root/change")


def write(change: NetworkChange, *, back: bool) -> None:
    for file in change.files:
        content, path = file.before if back else file.after, Path(file.path)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(file.mode)


def run(commands: tuple[tuple[str, ...], ...]) -> None:
    for argv in commands:
        started = time.monotonic()
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        print(f"{' '.join(argv)}: {done.returncode} after {time.monotonic() - started:.1f} s {done.stdout}{done.stderr}".strip())


def main() -> None:
    verb, host = sys.argv[2], LocalHost()
    if verb == "plan":
        card = registry.card(host, sys.argv[3])
        print(registry.owner(host, card).manager.name)
        SAVED.write_bytes(pickle.dumps(registry.change(host, sys.argv[3], sys.argv[4])))
        return
    if verb == "step":
        window = int(sys.argv[5]) if len(sys.argv) > 5 else 60
        step = OwnCard(sys.argv[3], sys.argv[4], registry.planned, alarms_of("systemd"), window=window)
        (record,) = step.prepare(host).undo
        SAVED.write_bytes(pickle.dumps(record.args))
        step.apply(host)
        step.verify(host)
        return
    if verb == "undo":
        print(undo.card(UndoContext(host, Originals(host, "/root/originals")), pickle.loads(SAVED.read_bytes())))
        return
    change: NetworkChange = pickle.loads(SAVED.read_bytes())
    write(change, back=verb == "restore")
    run(change.load if verb == "apply" else change.restore)


main()
