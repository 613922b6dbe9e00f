"""Settings from every source: the documented usage lines, precedence, and messages about mistakes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import places

from nqrust.cli.app import command
from nqrust.cli.install import flags as cli_flags
from nqrust.cli.install import gathering
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.model import Mode, Settings
from nqrust.installer.settings.options import BY_NAME, MODE_DEFAULTS, OPTIONS, RUN_FLAGS
from nqrust.installer.settings.record import remembered, value_of
from nqrust.installer.settings.sources import gather, nested
from nqrust.installer.settings.yaml_file import parse

TABLES = places.TABLES / "settings"


def rows(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((TABLES / name).read_text())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {v for option in OPTIONS for v in option.variables} | {f.variable for f in RUN_FLAGS}
    for name in (*known, "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def parsed(words: list[str], verb: str = "plan") -> dict[str, Any]:
    """Return the flags of `nqr VERB words` as the command receives them."""
    context = command().commands[verb].make_context("nqr", words)
    return dict(context.params)


@pytest.mark.parametrize("row", rows("usage.yaml"), ids=lambda row: row["line"] or str(row.get("environ", "nothing"))[:40])
def test_every_usage_line_parses_to_what_it_says(row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gathering, "recorded", dict)
    (tmp_path / "config.yaml").write_text(row.get("config", ""))
    for name, value in row.get("environ", {}).items():
        monkeypatch.setenv(name, value)
    given = parsed(shlex.split(row["line"]), "install")
    found = gathering.gathered(given)
    for name, value in row["explicit"].items():
        assert value_of(found.settings, name) == value
    assert found.explicit == set(row["explicit"])
    run = gathering.request(given, found).run
    for name, value in row.get("run", {}).items():
        assert cli_flags.run_value(given, name) == value
        handed_on = getattr(run, name, value)  # the command itself uses the others
        assert (list(handed_on) if isinstance(handed_on, tuple) else handed_on) == value


@pytest.mark.parametrize("row", rows("bad.yaml"), ids=lambda row: str(row)[:60])
def test_mistakes_are_named_and_cured(row: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        config = parse(row["config"].encode(), "config.yaml") if "config" in row else None
        gather(flags=row.get("flags", {}), environ=row.get("environ", {}), config=config)
    error = caught.value
    assert (error.code, error.exit_code) == (row["code"], 2)
    assert row["what"] in error.what
    assert error.cure and (row["cure"] == "--" or row["cure"] in error.cure)
    assert "hunter2" not in error.what + error.cure


def test_tags_are_never_executed(tmp_path: Path) -> None:
    marker = tmp_path / "was-here"
    with pytest.raises(UsageError):
        parse(f"mode: !!python/object/apply:os.system ['touch {marker}']".encode(), "c.yaml")
    assert not marker.exists()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "network:\n", "mode:\n", "network: {}\n"])
def test_a_file_that_says_nothing_is_valid(text: str) -> None:
    assert gather(flags={}, environ={}, config=parse(text.encode(), "c.yaml")).settings == Settings()


def test_precedence_and_provenance() -> None:
    config = parse(b"network:\n  bridge_name: from-file\n  uplink: from-file\ndatabase:\n  name: fromfile\n", "c.yaml")
    recorded = {
        "network.bridge_name": "rec",
        "network.uplink": "rec",
        "database.name": "rec",
        "database.user": "rec",
    }
    found = gather(
        flags={"network.bridge_name": "from-flag"},
        environ={"BRIDGE_NAME": "from-env", "NQR_UPLINK": "from-env"},
        config=config,
        recorded=recorded,
    )
    shown = {name: (found.given[name].value, found.given[name].label) for name in (*recorded, "vmm")}
    assert shown == {
        "network.bridge_name": ("from-flag", "flag --bridge-name"),
        "network.uplink": ("from-env", "environment variable NQR_UPLINK"),
        "database.name": ("fromfile", "c.yaml, line 5"),
        "database.user": ("rec", "the last install"),
        "vmm": ("auto", "default"),
    }


def test_an_empty_variable_counts_as_not_set_and_is_noted() -> None:
    found = gather(flags={}, environ={"BRIDGE_NAME": ""})
    assert found.settings.network.bridge_name == "fcbr0"
    assert any("BRIDGE_NAME" in note for note in found.notes)


def test_the_vm_network_brings_its_own_addresses() -> None:
    assert gather(flags={"network.cidr": "10.9.0.0/24"}, environ={}).settings.network.dhcp_last == "10.9.0.250"


def test_the_password_comes_from_a_file_or_the_environment_and_never_shows(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_text("from-the-file\n")
    file.chmod(0o600)
    flags = {"database.password_file": str(file)}
    both = gather(flags=flags, environ={"DB_PASSWORD": "from-env"})
    assert both.db_password is not None and both.db_password.reveal() == "from-the-file"
    env = gather(flags={}, environ={"DB_PASSWORD": "from-env"})
    assert env.db_password is not None and env.db_password.reveal() == "from-env"
    assert "from-env" not in repr(env) and "from-the-file" not in repr(both)
    assert gather(flags={}, environ={"DB_PASSWORD": ""}).db_password is None
    newer = gather(flags={}, environ={"DB_PASSWORD": "from-env", "NQR_DB_PASSWORD": "from-nqr"})
    assert newer.db_password is not None and newer.db_password.reveal() == "from-nqr"
    assert newer.notes == ("NQR_DB_PASSWORD wins over DB_PASSWORD; they differ.",)
    assert gather(flags={}, environ={"DB_PASSWORD": "one", "NQR_DB_PASSWORD": "one"}).notes == ()
    with pytest.raises(UsageError, match="NQR_DB_PASSWORD"):
        gather(flags={}, environ={"NQR_DB_PASSWORD": "with\ttab"})
    by_variable = gather(flags={}, environ={"NQR_DB_PASSWORD_FILE": str(file), "DB_PASSWORD": "from-env"})
    assert by_variable.db_password is not None and by_variable.db_password.reveal() == "from-env"
    file.chmod(0o644)
    assert any("0600" in note for note in gather(flags=flags, environ={}).notes)


def test_a_password_file_that_is_gone_does_not_stop_a_re_run(tmp_path: Path) -> None:
    found = gather(flags={}, environ={}, recorded={"database.password_file": str(tmp_path / "gone")})
    assert found.db_password is None and "gone" in found.notes[0]


def test_relative_paths_start_where_the_user_is(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    found = gather(flags={"release.source_dir": "src"}, environ={}, cwd=str(tmp_path))
    assert found.settings.release.source_dir == str(tmp_path / "src")


def test_paths_that_nqr_only_reads_may_have_spaces(tmp_path: Path) -> None:
    stick = tmp_path / "My Stick (grün)"
    stick.mkdir()
    for name in ("release.pub", "join", "cert.pem", "key.pem"):
        (stick / name).touch()
    given = {
        "release.source_dir": str(stick),
        "release.public_key": str(stick / "release.pub"),
        "agent.join_token_file": str(stick / "join"),
        "tls.certificate": str(stick / "cert.pem"),
        "tls.key": str(stick / "key.pem"),
        "database.ca": str(stick / "cert.pem"),
    }
    for name, value in given.items():
        mode = {"mode": "agent", "agent.manager_base": "https://10.0.0.5:18080"} if name.startswith("agent") else {}
        pair = {key: given[key] for key in ("tls.certificate", "tls.key")} if name.startswith("tls") else {}
        source = {"release.source": "https://host/v1"} if name == "release.public_key" else {}
        there = {"database.type": "remote", "database.host": "db1"} if name.startswith("database") else {}
        found = gather(flags={name: value, **mode, **pair, **source, **there}, environ={}).settings
        assert value_of(found, name) == value


def test_remembered_settings_round_trip() -> None:
    first = gather(flags={"mode": "minimal", "network.bridge_name": "br7", "vmm": "qemu"}, environ={}).settings
    again = gather(flags={}, environ={}, recorded=remembered(first)).settings
    assert again == first


def test_defaults_are_not_remembered_so_a_mode_can_change() -> None:
    minimal = gather(flags={"mode": "minimal"}, environ={}).settings
    assert remembered(minimal) == {"mode": "minimal"}
    assert gather(flags={"mode": "production"}, environ={}, recorded=remembered(minimal)).settings.has_ui


def test_the_table_covers_every_setting_and_every_mode() -> None:
    leaves = {
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in Settings().model_dump().items()
        for key in (value if isinstance(value, dict) else [""])
    }
    assert leaves == set(BY_NAME)
    assert set(MODE_DEFAULTS) == {mode.value for mode in Mode}


def test_every_flag_has_a_negative_form_and_a_variable() -> None:
    for option in OPTIONS:
        assert option.nqr_env.startswith("NQR_")
        if option.flag.startswith("--with-"):
            assert option.off == option.flag.replace("--with-", "--no-")
    variables = [v for option in OPTIONS for v in option.variables]
    assert len(variables) == len(set(variables))


def test_run_flags_come_from_variables_too() -> None:
    assert cli_flags.run_value({}, "on_failure", {"NQR_ON_FAILURE": "keep"}) == "keep"
    assert cli_flags.run_value({}, "ignore_preflight", {"NQR_IGNORE_PREFLIGHT": "A, B"}) == ["A", "B"]
    with pytest.raises(UsageError, match="NQR-CFG-008"):
        cli_flags.run_value({}, "dry_run", {"NQR_DRY_RUN": "perhaps"})


def test_dotted_names_become_sections() -> None:
    assert nested({"a.b": 1, "c": 2}) == {"a": {"b": 1}, "c": 2}
