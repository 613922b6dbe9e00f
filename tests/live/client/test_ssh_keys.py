"""With real programs: which lines are public keys. The good ones are ssh-keygen's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nqrust.contract.ssh_keys import wrong


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed (openssh-client)")
@pytest.mark.parametrize("kind", [("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "521")], ids=str)
def test_client_accepts_keys_from_ssh_keygen(kind: tuple[str, ...], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "ann's laptop", "-t", *kind, "-f", str(tmp_path / "k")], check=True)
    assert wrong((tmp_path / "k.pub").read_text().strip()) == ""
