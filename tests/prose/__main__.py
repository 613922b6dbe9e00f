"""`python -m tests.prose [--list | PATH...]`: every fault, or those in files that begin with a path; `--list`: files only."""

from __future__ import annotations

import sys

from tests.prose import check, rules

wanted = tuple(sys.argv[1:])
found: dict[str, list[rules.Fault]] = {}
for kind in (check.everything(), check.comments_of_everything()):
    for file, faults in kind.items():
        if faults:
            found.setdefault(file, []).extend(faults)
if wanted == ("--list",):
    print("\n".join(f"{len(faults):4} {file}" for file, faults in sorted(found.items())))
else:
    for file, faults in found.items():
        if not wanted or file.startswith(wanted):
            print("\n".join(map(str, faults)))
