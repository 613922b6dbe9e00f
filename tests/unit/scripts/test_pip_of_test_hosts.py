"""The part of the machine's pip configuration that a test host takes over."""

from __future__ import annotations

from pathlib import Path

from tests.hosts.machine.settings import CA_BUNDLE, PLUMBING, pip_configuration


def configured(tmp_path: Path, text: str, **environ: str) -> tuple[dict[str, str], dict[str, str]]:
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/pip.conf").write_text(text)
    conf, binds = pip_configuration(environ, str(tmp_path))
    header, *lines = conf.splitlines()
    assert header == "[global]"
    return dict(line.split(" = ", 1) for line in lines), binds


def test_constraints_file_is_not_copied_to_test_hosts(tmp_path: Path) -> None:
    text = "[global]\nindex-url = https://index.example/simple\nconstraint = /opt/constraints.txt\n[install]\nuser = yes\ntarget = /x\n"
    options, binds = configured(tmp_path, text, PIP_CONSTRAINT="/y", PIP_PREFIX="/z", PIP_TIMEOUT="180")
    assert options == {"index-url": "https://index.example/simple", "timeout": "180", "cache-dir": f"{PLUMBING}/pip-cache"}
    assert binds == {}


def test_pip_variables_and_a_named_file_win(tmp_path: Path) -> None:
    (tmp_path / "named.conf").write_text("[global]\nretries = 2\nproxy = http://proxy.example:3128\nrequirement = /x\n")
    options, _ = configured(
        tmp_path, "[global]\nretries = 1\n", PIP_CONFIG_FILE=str(tmp_path / "named.conf"), PIP_PROXY="http://other.example:3128"
    )
    assert (options["retries"], options["proxy"]) == ("2", "http://other.example:3128") and "requirement" not in options


def test_files_needed_to_reach_an_index_are_copied(tmp_path: Path) -> None:
    wheels, key = tmp_path / "wheels", tmp_path / "client.pem"
    wheels.mkdir()
    key.write_text("key")
    text = f"[global]\nfind_links = {wheels}\ncert = /home/me/company.pem\nclient-cert = {key}\n"
    options, binds = configured(tmp_path, text)
    assert binds == {str(key): f"{PLUMBING}/client-cert.pem", str(wheels): options["find-links"]}
    assert options["client-cert"] == f"{PLUMBING}/client-cert.pem" and options["cert"] == str(CA_BUNDLE)
    assert options["find-links"].startswith(PLUMBING)
