"""The users of VMs that one worker's tests give to processes. No other worker has them: a VM's processes are found by their
user, so a test that ends those of its own user would end another worker's, or use up what its user may start."""

from __future__ import annotations

import os

from nqrust.contract.names import VM_USERS

_EACH = 32
USER = VM_USERS[1000 + os.getpid() % 2000 * _EACH]
"""The first of this worker's users. The ones up to USER + 31 are its own, too."""
