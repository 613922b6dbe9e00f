"""The installer uses only the index settings of a host's pip configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.installer.platform.test_venv import environment, lock, make_wheel

from nqrust.host.local import LocalHost
from nqrust.installer.release import pip_settings
from nqrust.installer.release.wheelhouse import Wheelhouse

LISTING = """\
global.cert='/etc/ssl/company.pem'
global.constraint='/opt/tools/constraints.txt'
global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'
global.index-url='https://user:word@index.example/simple'
global.target='/opt/tools/lib'
global.timeout='15'
install.index-url='https://only-for-install.example/simple'
install.user='true'
download.timeout='30'
:env:.retries='9'
:env:.constraint='/home/somebody/pins.txt'
nonsense
"""


def test_pip_uses_only_index_settings_of_the_host() -> None:
    environ = {"PIP_RETRIES": "9", "PIP_CONSTRAINT": "/home/somebody/pins.txt", "HOME": "/root", "PIP_PREFIX": "/opt"}
    assert pip_settings.environment(LISTING, environ) == {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_CERT": "/etc/ssl/company.pem",
        "PIP_EXTRA_INDEX_URL": "https://one.example/simple https://two.example/simple",
        "PIP_INDEX_URL": "https://user:word@index.example/simple",
        "PIP_TIMEOUT": "30",
        "PIP_RETRIES": "9",
        "PIP_CONSTRAINT": "",
        "PIP_PREFIX": "",
    }


def test_pip_gets_the_file_of_certificates_unless_a_setting_names_another() -> None:
    environ = {"SSL_CERT_FILE": "/etc/own.pem"}
    assert pip_settings.environment("", environ)["PIP_CERT"] == "/etc/own.pem"
    assert pip_settings.environment(LISTING, environ)["PIP_CERT"] == "/etc/ssl/company.pem"
    assert pip_settings.environment("", {**environ, "PIP_CERT": "/mine.pem"})["PIP_CERT"] == "/mine.pem"
    assert "PIP_CERT" not in pip_settings.environment("", {})


@pytest.mark.parametrize("option", pip_settings.REACH)
def test_pip_variable_wins_over_pip_files(option: str) -> None:
    variable = f"PIP_{option.upper().replace('-', '_')}"
    assert pip_settings.environment(f"global.{option}='file'", {})[variable] == "file"
    assert pip_settings.environment(f"global.{option}='file'", {variable: "mine"})[variable] == "mine"


def test_every_listed_option_exists_in_pip() -> None:
    """A misspelt option would be followed by nobody."""
    told = subprocess.run([sys.executable, "-m", "pip", "download", "--help"], capture_output=True, text=True, check=True).stdout
    hidden = {"default-timeout", "pypi-url"}  # older names that pip still takes
    assert [option for option in pip_settings.REACH if option not in hidden and f"--{option}" not in told] == []


@pytest.mark.parametrize("where", ["file", "variables"])
def test_wheels_install_despite_other_pip_settings_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Each of these options alone would break or redirect one of the two pip runs."""
    alpha, elsewhere = lock(tmp_path, make_wheel(tmp_path / "wheels", "alpha")), tmp_path / "elsewhere"
    (tmp_path / "pins.txt").write_text("alpha==9.9\n")
    (tmp_path / "more.txt").write_text("beta==1.0\n")
    hostile = {
        "constraint": str(tmp_path / "pins.txt"), "requirement": str(tmp_path / "more.txt"), "target": str(elsewhere),
        "prefix": str(elsewhere), "user": "true", "require-virtualenv": "true", "no-binary": ":all:", "dry-run": "true",
    }  # fmt: skip
    lines = {"no-index": "true", "find-links": str(tmp_path / "wheels"), **(hostile if where == "file" else {})}
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\n" + "".join(f"{option} = {value}\n" for option, value in lines.items()))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    if where == "variables":
        for option, value in hostile.items():
            monkeypatch.setenv(f"PIP_{option.upper().replace('-', '_')}", value)
    pool = tmp_path / "cache/wheelhouse"
    Wheelhouse("1", str(tmp_path), (alpha.name,), sys.executable, directory=str(pool)).apply(LocalHost())
    assert [path.name for path in pool.glob("*.whl")] == ["alpha-1.0-py3-none-any.whl"]
    environment(tmp_path, alpha).apply(LocalHost())
    assert list((tmp_path / "venv").rglob("site-packages/alpha.py")) and not elsewhere.exists()
