"""The RPM, written by rpmbuild(8)."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.packages.payload import HOME, SCRIPTS
from scripts.packages.run import Failed, run

SPEC = """\
Name: nqr
Version: {version}
Release: 1
Summary: Installer and command line of NQRust-MicroVM
License: Apache-2.0
ExclusiveArch: x86_64
Requires: (python3 >= 3.10 or python3.12 or python3.11)
AutoReqProv: no

%description
nqr installs the microVM platform on this host, proves it by a booted VM,
and removes it again. `nqr plan` shows what an installation would change.

%install
cp -a {payload}/. %{{buildroot}}/

%preun
removing=no
[ "$1" != 0 ] || removing=yes
{removal}

%files
%defattr(-,root,root,-)
/usr/bin/nqr
/{home}
/usr/share/doc/nqr
"""
_MACROS = {
    "__os_install_post": "%{nil}",  # no stripping, no byte code
    "debug_package": "%{nil}",
    "_build_id_links": "none",
    "_buildhost": "localhost",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "_binary_payload": "w9.zstdio",
}


def available() -> bool:
    """Return whether this machine has rpmbuild."""
    return shutil.which("rpmbuild") is not None


def write(payload: Path, version: str, to: Path, work: Path) -> Path:
    """Pack the files of `payload` and return the package's path below `to`. `work`: a folder for the build. Raises Failed."""
    if not available():
        raise Failed("This machine has no rpmbuild. Install it (Debian: apt-get install rpm).")
    spec, made = work / "nqr.spec", work / "rpms"
    removal = (SCRIPTS / "before_removal.sh").read_text().strip()
    spec.write_text(SPEC.format(version=version, payload=payload, removal=removal, home=HOME))
    macros = {
        **_MACROS,
        "_topdir": str(work / "rpmbuild"),
        "_rpmdir": str(made),
        "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
    }
    defines = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
    run(["rpmbuild", "-bb", "--target", "x86_64", *defines, spec])
    package = to / f"nqr-{version}-1.x86_64.rpm"
    shutil.move(made / package.name, package)
    return package
