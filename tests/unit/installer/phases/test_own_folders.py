"""Folders of an install are nqr's own: not the system's, and not one in another."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit

from nqrust.installer.preflight.findings import Severity
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.settings.model import Settings

CONFIG = "/etc/nqrust-microvm"


def found(known: bool = False, links: dict[str, str] | None = None, **folders: str) -> list[str]:
    host = FakeHost.debian12()
    for link, target in (links or {}).items():
        host.put_directory(target)
        host.symlink(target, link)
    findings = run(Settings.model_validate({"paths": folders}), fit(), host, Situation(known=known))
    mine = [one for one in findings if one.code == "NQR-PRE-055"]
    assert all(one.severity is Severity.error and "of nqr's own" in one.cure for one in mine)
    return [one.what for one in mine]


@pytest.mark.parametrize(
    ("option", "path", "says"),
    [
        ("image_dir", "/etc", "is in the system's folder /etc"),
        ("image_dir", "/etc/ssh", "is in the system's folder /etc"),
        ("image_dir", "/usr/local/bin", "is in the system's folder /usr/local/bin"),
        ("image_dir", "/root", "is the system's folder /root"),
        ("image_dir", "/srv", "is the system's folder /srv"),
        ("image_dir", "/opt", "is the system's folder /opt"),
        ("image_dir", "/var/lib/nqrust-microvm/images", "overlaps nqr's folder /var/lib/nqrust-microvm"),
        ("config_dir", "/etc", "is in the system's folder /etc"),
        ("data_dir", "/var", "is the system's folder /var"),
        ("data_dir", "/var/lib/nqrust-microvm", "overlaps nqr's folder /var/lib/nqrust-microvm"),
        ("install_dir", "/usr/local", "is the system's folder /usr/local"),
    ],
)
def test_a_folder_of_the_system_is_refused(option: str, path: str, says: str) -> None:
    assert found(**{option: path}) == [f"{option.upper()} is {path}. That {says}."]
    assert found(known=True, **{option: path}) == []


@pytest.mark.parametrize(
    ("folders", "what"),
    [
        ({"image_dir": CONFIG}, "in the system's folder /etc"),
        ({"image_dir": "/opt/nqrust-microvm"}, "in INSTALL_DIR (/opt/nqrust-microvm)"),
        ({"image_dir": "/opt/nqrust-microvm/bin"}, "in INSTALL_DIR (/opt/nqrust-microvm)"),
        ({"data_dir": "/opt/nqrust-microvm/data"}, "in INSTALL_DIR (/opt/nqrust-microvm)"),
        ({"data_dir": "/srv/images/data"}, "in IMAGE_DIR (/srv/images)"),
        ({"config_dir": "/srv/images/settings"}, "in IMAGE_DIR (/srv/images)"),
        ({"image_dir": "/srv/fc/vms"}, "in DATA_DIR (/srv/fc)"),
        ({"image_dir": "/srv/fc/volumes/images"}, "in DATA_DIR (/srv/fc)"),
        ({"image_dir": "/srv/fc/images-cache"}, "in DATA_DIR (/srv/fc)"),
    ],
)
def test_a_folder_in_another_one_is_refused(folders: dict[str, str], what: str) -> None:
    (said,) = found(**folders)
    assert said.endswith(f"That is {what}.")


def test_two_options_with_one_folder_are_refused() -> None:
    assert found(image_dir="/data/all", data_dir="/data/all") == ["IMAGE_DIR is /data/all. That is in DATA_DIR (/data/all)."]


@pytest.mark.parametrize(
    "folders",
    [
        {},
        {"image_dir": "/srv/fc/images"},
        {"data_dir": "/data", "image_dir": "/data/images", "install_dir": "/data/nqrust"},
        {"data_dir": "/srv"},
        {"data_dir": "/home"},
        {"config_dir": "/etc/vms"},
        {"image_dir": "/var/lib/images"},
        {"image_dir": "/etcetera/images"},
    ],
)
def test_folders_of_its_own_are_accepted(folders: dict[str, str]) -> None:
    assert found(**folders) == []


def test_links_count_as_what_they_lead_to() -> None:
    assert found(links={"/data": "/usr/share/data"}, image_dir="/data/images") == [
        "IMAGE_DIR is /data/images. That is in the system's folder /usr/share."
    ]
    (said,) = found(links={"/pictures": "/opt/nqrust-microvm/pictures"}, image_dir="/pictures")
    assert said.endswith("is in INSTALL_DIR (/opt/nqrust-microvm).")
    assert found(links={"/pictures": "/big/disk"}, image_dir="/pictures") == []
