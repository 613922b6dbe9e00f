/opt/nqrust-microvm/scripts/support-bundle.sh 0755 root:root
---
#!/bin/sh
# Gather settings (secrets masked), status and logs in one file: `nqr support-bundle` with every option as given.
set -eu

nqr=/opt/nqrust-microvm/installer/venv/bin/nqr
if [ ! -x "$nqr" ]; then
    echo "There is no $nqr; run ./scripts/install/install.sh from a copy of the repository." >&2
    exit 1
fi
exec "$nqr" support-bundle "$@"
