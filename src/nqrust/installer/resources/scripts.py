"""Helper scripts of an installation: thin, for people who look for a script before a program.

`undo.sh`, the fourth, is a link to the script that every run updates (operations/standing_undo.py).
"""

from __future__ import annotations

from nqrust.contract import paths
from nqrust.contract.paths import Layout

_UNINSTALL = """#!/bin/sh
# Remove NQRust-MicroVM from this host: `nqr uninstall`, or undo.sh where nqr no longer starts. Options: --help.
set -eu

nqr={nqr}
undo={undo}
if "$nqr" version >/dev/null 2>&1; then exec "$nqr" uninstall "$@"; fi
if [ -f "$undo" ]; then
    echo "nqr does not start here; $undo does the same without it." >&2
    cd /
    exec sh "$undo" "$@"
fi
echo "Neither $nqr nor $undo works; run ./scripts/install/uninstall.sh from a copy of the repository." >&2
exit 1
"""

_NQR = """#!/bin/sh
# {what}: `nqr {verb}` with every option as given.
set -eu

nqr={nqr}
if [ ! -x "$nqr" ]; then
    echo "There is no $nqr; run ./scripts/install/install.sh from a copy of the repository." >&2
    exit 1
fi
exec "$nqr" {verb} "$@"
"""


def helper_scripts(layout: Layout) -> dict[str, str]:
    """Return name in the scripts folder -> content. Paths of a layout need no quotes (settings.AbsolutePath)."""
    nqr = f"{layout.installer_dir}/venv/bin/nqr"
    return {
        "uninstall.sh": _UNINSTALL.format(nqr=nqr, undo=paths.UNDO_SCRIPT),
        "verify.sh": _NQR.format(nqr=nqr, verb="verify", what="Test each part of this installation, with a test VM"),
        "support-bundle.sh": _NQR.format(
            nqr=nqr, verb="support-bundle", what="Gather settings (secrets masked), status and logs in one file"
        ),
    }
