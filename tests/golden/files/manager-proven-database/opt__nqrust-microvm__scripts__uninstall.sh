/opt/nqrust-microvm/scripts/uninstall.sh 0755 root:root
---
#!/bin/sh
# Remove NQRust-MicroVM from this host: `nqr uninstall`, or undo.sh where nqr no longer starts. Options: --help.
set -eu

nqr=/opt/nqrust-microvm/installer/venv/bin/nqr
undo=/var/lib/nqrust-microvm/undo.sh
if "$nqr" version >/dev/null 2>&1; then exec "$nqr" uninstall "$@"; fi
if [ -f "$undo" ]; then
    echo "nqr does not start here; $undo does the same without it." >&2
    cd /
    exec sh "$undo" "$@"
fi
echo "Neither $nqr nor $undo works; run ./scripts/install/uninstall.sh from a copy of the repository." >&2
exit 1
