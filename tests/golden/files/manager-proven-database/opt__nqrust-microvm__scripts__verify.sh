/opt/nqrust-microvm/scripts/verify.sh 0755 root:root
---
#!/bin/sh
# Test each part of this installation, with a test VM: `nqr verify` with every option as given.
set -eu

nqr=/opt/nqrust-microvm/installer/venv/bin/nqr
if [ ! -x "$nqr" ]; then
    echo "There is no $nqr; run ./scripts/install/install.sh from a copy of the repository." >&2
    exit 1
fi
exec "$nqr" verify "$@"
