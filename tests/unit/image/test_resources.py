"""The scripts for the guest are valid shell."""

from __future__ import annotations

from nqrust.image import resources, rootfs


def test_no_password_means_no_login_but_on_the_console() -> None:
    assert rootfs._SHADOW.startswith("root::")
    assert rootfs._FILES["etc/securetty"] == "ttyS0\n"
    started = resources.read("tiny/inittab").decode() + resources.read("tiny/rcS").decode()
    assert not [server for server in ("telnetd", "sshd", "dropbear", "httpd", "ftpd") if server in started]
