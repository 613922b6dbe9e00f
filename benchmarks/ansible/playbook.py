"""Runs on the installed host, with the installer's own Python: the plan of that installation as an Ansible playbook.

    playbook.py CHECKOUT      prints the playbook as JSON, which is YAML too

Steps of one kind become one task with a loop where a module takes them one by one. Where Ansible has no module for a
thing (it has none for bridges or rulesets in its core), the task asks the kernel by `command` and changes nothing. What
only `nqr` checks (artifacts by digest, the image, migrations, the VMM's verdict) is reduced to `stat` or left out: all of
that is in Ansible's favour.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from nqrust.host.secret import Secret
from nqrust.installer import planner
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.operations.site import facts_for, make_context, open_site
from nqrust.installer.request import Environment, Request, RunOptions

Task = dict[str, Any]


def steps(checkout: str) -> list[Any]:
    site = open_site(NullReporter())
    settings = site.installed_settings
    assert settings is not None
    request = Request(settings, RunOptions(), Environment(checkout=checkout))
    return [step for _, step in planner.plan(make_context(site, request, facts_for(site.host, settings), NullReporter())).steps()]


def tasks(plan: list[Any]) -> Iterable[Task]:
    kinds: dict[str, list[Any]] = {}
    for step in plan:
        kinds.setdefault(step.kind, []).append(step)
    yield module("apt", {"name": sorted({name for step in kinds.get("packages", []) for name in step.names}), "state": "present"})
    yield loop("group", [{"name": step.name} for step in kinds.get("group", [])])
    yield loop("user", [
        {"name": step.name, "group": step.group, "home": step.home, "shell": step.shell, "create_home": False}
        for step in kinds.get("user", [])
    ])  # fmt: skip
    yield loop("user", [{"name": step.user, "groups": step.group, "append": True} for step in kinds.get("member", [])])
    yield loop("file", [_owned(step, state="directory") for step in kinds.get("directory", [])])
    yield loop("file", [{"path": step.path, "src": step.target, "state": "link"} for step in kinds.get("symlink", [])])
    yield loop("copy", [_content(step) for step in kinds.get("file", [])])
    yield loop("copy", [
        {"dest": step.path, "content": step.content, "mode": "0440", "validate": "/usr/sbin/visudo -cf %s"}
        for step in kinds.get("sudoers", [])
    ])  # fmt: skip
    yield loop("file", [_owned(step, state="file") for step in kinds.get("artifact", [])])
    yield asked([["cat", f"/proc/sys/{step.key.replace('.', '/')}"] for step in kinds.get("sysctl", []) if not step.optional])
    yield asked([["ip", "-json", "address", "show", "dev", step.name] for step in kinds.get("bridge", [])])
    for step in kinds.get("firewall", []):
        yield asked([[step.binary, "-t", chain.table, "-S", chain.name] for chain in step.spec.chains])
    for step in (*kinds.get("pg-role", []), *kinds.get("pg-database", [])):
        yield asked(
            [["runuser", "-u", "postgres", "--", "psql", "-Atc", f"SELECT 1 FROM pg_roles WHERE rolname = '{step.name}'"]]
        )
    yield loop("stat", [{"path": step.directory} for step in kinds.get("python-environment", [])])
    yield loop("stat", [{"path": f"{step.image_dir}/{step.recipe}"} for step in kinds.get("built-image", [])])
    yield loop(
        "systemd_service", [{"name": step.name, "enabled": step.enabled, "state": "started"} for step in kinds.get("service", [])]
    )


def _owned(step: Any, state: str) -> dict[str, Any]:
    return {"path": step.path, "state": state, "mode": f"{step.mode:04o}", "owner": step.owner, "group": step.group}


def _content(step: Any) -> dict[str, Any]:
    content = step.content.reveal() if isinstance(step.content, Secret) else step.content
    if isinstance(content, bytes):
        content = content.decode()
    return {
        "dest": step.path, "content": content, "mode": f"{step.mode:04o}", "owner": step.owner, "group": step.group,
        "force": not step.keep_existing,
    }  # fmt: skip


def module(name: str, arguments: dict[str, Any]) -> Task:
    return {"name": name, f"ansible.builtin.{name}": arguments}


def loop(name: str, items: list[dict[str, Any]]) -> Task:
    """Every item has the same keys."""
    keys = sorted(items[0]) if items else []
    return module(name, {key: "{{ item." + key + " }}" for key in keys}) | {"loop": items, "no_log": True}


def asked(commands: list[list[str]]) -> Task:
    return module("command", {"argv": "{{ item }}"}) | {"loop": commands, "changed_when": False}


def main(checkout: str) -> None:
    found = [task for task in tasks(steps(checkout)) if task.get("loop") != []]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": found}
    print(json.dumps([play]))


main(sys.argv[1])
