"""How the bootstrap reaches others: remembered values, and the certificates that package managers must be told."""

from __future__ import annotations

import json
from pathlib import Path

from tests.live.scripts.test_install_sh import alone, clone, needs_root, over, ready, run

from nqrust.host.environment import reach, render

__all__ = ["clone", "ready"]
GIVEN = {
    "https_proxy": "http://ann:it's $ecret@proxy:3128",
    "NO_PROXY": "localhost,10.0.0.0/8",
    "SSL_CERT_FILE": "/etc/ssl/own.pem",
    "PIP_INDEX_URL": "https://index.example/simple",
}


@needs_root
def test_install_sh_takes_remembered_values_and_counts_its_own_more(clone: Path, ready: Path, tmp_path: Path) -> None:
    kept = tmp_path / "reach.env"
    kept.write_text(render(GIVEN) + "PATH=/evil\nLD_PRELOAD=x\nPIP_INDEX_URL=$(touch /nqr-was-here)'\n")
    kept.chmod(0o600)
    script, names = clone / "scripts/install/install.sh", clone / "scripts/install/reach.sh"
    names.write_text(names.read_text().replace("/var/lib/nqrust-microvm/reach.env", str(kept)))
    (clone / "src/nqrust/cli/__main__.py").write_text(
        "import json, os\ndef main():\n    print(json.dumps(dict(os.environ)))\n    return 0\n"
    )

    def seen(**given: str) -> dict[str, str]:
        environment = json.loads(run(script, NQR_CACHE_DIR=str(ready), **given).stdout)
        assert "/evil" not in environment["PATH"] and "LD_PRELOAD" not in environment
        return reach(environment)

    assert seen() == GIVEN
    assert seen(HTTPS_PROXY="", no_proxy="x") == {
        **{name: value for name, value in GIVEN.items() if name not in ("https_proxy", "NO_PROXY")}, "no_proxy": "x",
    }  # fmt: skip
    kept.chmod(0o640)
    assert seen() == {}, "others can read it"
    assert not Path("/nqr-was-here").exists()


@needs_root
def test_install_sh_names_the_certificates_to_apt(clone: Path, ready: Path, tmp_path: Path) -> None:
    (ready / "bootstrap.json").unlink()
    (ready / "borrowed").write_text("python3-venv\n")
    apt = f"case $* in *-s*) echo 'Purg python3-venv [1]' ;; *) echo \"$*\" >>{tmp_path}/calls ;; esac"
    programs = over({"apt-get": apt, "dpkg": "exit 0", "dpkg-query": "echo 'ok installed'"}, tmp_path)
    done = alone(programs, clone / "scripts/install/install.sh", NQR_CACHE_DIR=str(ready), CURL_CA_BUNDLE="/etc/own ca.pem")
    assert done.returncode == 7, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) > 1 and all("-o Acquire::https::CAInfo=/etc/own ca.pem" in call for call in calls)
