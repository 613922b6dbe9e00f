"""Phase 7: the service users, folders, and what the services read."""

from __future__ import annotations

from nqrust.contract import names, paths
from nqrust.host.secret import Secret
from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.platform.vm_home import VmHome
from nqrust.installer.resources import documents, env
from nqrust.installer.resources.scripts import helper_scripts
from nqrust.installer.verbs.account.group import Group
from nqrust.installer.verbs.account.member import Member
from nqrust.installer.verbs.account.user import User
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.mode import Mode
from nqrust.installer.verbs.file.symlink import Symlink

CONFIG_MODE = 0o640
SECRET_MODE = 0o600


def plan(context: Context) -> PhasePlan:
    settings, layout = context.settings, context.layout
    steps: list[Step] = [
        Group(names.SERVICE_GROUP),
        User(names.SERVICE_USER, names.SERVICE_GROUP, layout.install_dir, comment="NQRust-MicroVM services"),
    ]
    if settings.has_agent:
        steps.append(Member(names.KVM_GROUP, names.SERVICE_USER))
    steps += [
        Directory(layout.data_dir, tree=True, retain=Retain.data),
        Directory(layout.vms_dir, mode=0o711, tree=True, retain=Retain.data),
        *_managers_folder(context),
        Directory(layout.scripts_dir, adopt_modes=True),
        *[File(f"{layout.scripts_dir}/{name}", text, mode=0o755) for name, text in helper_scripts(layout).items()],
        Symlink(f"{layout.scripts_dir}/undo.sh", paths.UNDO_SCRIPT),
        # Root writes and reads fixed names there, so only root may add files.
        Directory(layout.backups_dir, mode=0o700, tree=True, adopt_modes=True),
        File(layout.config_yaml, documents.config_yaml(context), mode=CONFIG_MODE, group=names.SERVICE_GROUP),
    ]
    if settings.has_manager:
        # The manager stores fetched images beside root's built images. The sticky bit stops it from moving root's.
        steps += [
            Mode(layout.image_dir, 0o1775, "root", names.SERVICE_GROUP),
            *([File(layout.database_ca_file, context.database_ca[0], mode=0o644)] if context.database_ca else ()),
            File(layout.manager_env, env.manager_env(context), mode=CONFIG_MODE, group=names.SERVICE_GROUP),
            *(_documents(context) if context.speaks_our_api else ()),
        ]
    if settings.has_agent:
        steps.append(File(layout.agent_env, env.agent_env(context), mode=SECRET_MODE))
        steps += _agents_own(context) if context.speaks_our_api else []
    if settings.has_ui:
        steps += [
            Group(names.UI_GROUP),
            User(names.UI_USER, names.UI_GROUP, layout.install_dir, comment="NQRust-MicroVM web UI"),
            File(layout.ui_env, env.ui_env(context), mode=CONFIG_MODE, group=names.UI_GROUP),
            *(_certificate_of_ui(context) if context.speaks_our_api else ()),
        ]
    return PhasePlan("config", "Configuration", tuple(steps))


def _managers_folder(context: Context) -> list[Step]:
    """Return the step that lets upstream's manager store disks of VMs. The sticky bit keeps it from others' folders there."""
    if context.speaks_our_api or not context.settings.has_manager:
        return []
    return [Mode(context.layout.vms_dir, 0o1775, "root", names.SERVICE_GROUP)]


def _documents(context: Context) -> list[Step]:
    """Return what this project's manager reads beside its environment file, and root's access to it."""
    layout = context.layout
    password = _line(context.secrets.admin_password.reveal())
    return [
        *database_password(context),
        *_certificates(context),
        _bootstrap(context),
        File(layout.admin_password_file, password, mode=SECRET_MODE, secret=True),
        _cli_token(context),
    ]


def _agents_own(context: Context) -> list[Step]:
    layout = context.layout
    return [
        # The agent fills these. Separate steps remove them even from a data folder that is older than nqr.
        Directory(layout.image_cache_dir, tree=True, retain=Retain.data),
        Directory(layout.volumes_dir, mode=0o700, tree=True, retain=Retain.data),
        _join_token(context),
        VmHome(paths.AGENT_STATE_DIR, names.SCOPE_PREFIX),
    ]


def database_password(context: Context) -> tuple[Step, ...]:
    """Return the step for the password that the manager logs in to the database with."""
    if not env.reads_password_file(context):
        return ()
    content = Secret(_line(context.secrets.db_password.reveal()))
    path = context.layout.database_password_file
    return (File(path, content, mode=CONFIG_MODE, group=names.SERVICE_GROUP),)


def tokens(context: Context) -> tuple[Step, ...]:
    """Return the steps for the tokens that the installer makes, on the manager's host."""
    here = (_join_token(context),) if context.settings.has_agent else ()
    return (_bootstrap(context), _cli_token(context), *here)


def _bootstrap(context: Context) -> Step:
    path, content = context.layout.bootstrap_json, documents.bootstrap_json(context)
    return File(path, content, mode=CONFIG_MODE, secret=True, group=names.SERVICE_GROUP)


def _cli_token(context: Context) -> Step:
    return _secret(context.layout.cli_token_file, context.secrets.cli_token)


def _join_token(context: Context) -> Step:
    return _secret(context.layout.join_token_file, context.secrets.join_token)


def _secret(path: str, secret: Secret) -> Step:
    return File(path, _line(secret.reveal()), mode=SECRET_MODE, secret=True)


def authority(context: Context) -> tuple[Step, ...]:
    """Return the steps for the authority. The key says which of several trusted ones signs, so any order of writing works."""
    layout, secrets = context.layout, context.secrets
    return (
        File(layout.ca_file, secrets.trusted, mode=0o644),
        File(layout.ca_key_file, secrets.authority_key, mode=CONFIG_MODE, group=names.SERVICE_GROUP, secret=True),
    )


def _certificates(context: Context) -> list[Step]:
    """Return the steps for the authority, and for the operator's own certificate."""
    layout = context.layout
    steps: list[Step] = [Directory(layout.tls_dir, adopt_modes=True), *authority(context)]
    if context.own_tls is not None:
        certificate, key = context.own_tls
        steps += [
            File(layout.own_certificate, certificate, mode=0o644),
            File(layout.own_key, key, mode=CONFIG_MODE, group=names.SERVICE_GROUP, secret=True),
        ]
    return steps


def _certificate_of_ui(context: Context) -> list[Step]:
    return [
        # The manager writes the web UI's certificate there; setgid gives it the web UI's group. inode(7)
        Directory(paths.MANAGER_TLS_DIR, 0o2750, names.SERVICE_USER, names.UI_GROUP, tree=True, adopt_modes=True),
        *_own_of_ui(context),
    ]


def _own_of_ui(context: Context) -> list[Step]:
    if context.own_tls is None:
        return []
    certificate, key = context.own_tls
    both = Secret(f"{key.reveal().rstrip()}\n{certificate}")
    return [File(context.layout.own_ui, both, mode=CONFIG_MODE, group=names.UI_GROUP, secret=True)]


def _line(text: str) -> str:
    return text + "\n"
