"""Paths on an installed host. They are upstream's own; every part of the system uses these.

A setting can move each of the four roots (INSTALL_DIR, CONFIG_DIR, DATA_DIR, IMAGE_DIR). The functions of `Layout` return the
paths below them. State, cache and log folders do not move.
"""

from __future__ import annotations

from dataclasses import dataclass

INSTALL_DIR = "/opt/nqrust-microvm"
CONFIG_DIR = "/etc/nqrust-microvm"
IMAGE_CATALOGUE = "image-catalogue.json"
"""File in CONFIG_DIR that takes the place of the catalogue of cloud images."""
DATA_DIR = "/srv/fc"
IMAGE_DIR = "/srv/images"
STATE_DIR = "/var/lib/nqrust-microvm"
LOG_DIR = "/var/log/nqrust-microvm"
INSTALL_LOG_DIR = "/var/log/nqrust-install"
CACHE_DIR = "/var/cache/nqrust-microvm"
RUN_DIR = "/run/nqrust-microvm"
NQR_LINK = "/usr/local/bin/nqr"
GUEST_AGENT_CONF = "/etc/guest-agent.conf"
GUEST_FOLDER = "/.nqrust"
"""In a guest that runs the process of a container: its init and that process."""


@dataclass(frozen=True)
class Layout:
    """Every path below the four movable roots. All values are absolute paths without a trailing slash."""

    install_dir: str = INSTALL_DIR
    config_dir: str = CONFIG_DIR
    data_dir: str = DATA_DIR
    image_dir: str = IMAGE_DIR

    # --- programs
    @property
    def bin_dir(self) -> str:
        return f"{self.install_dir}/bin"

    @property
    def libexec_dir(self) -> str:
        """Root-owned programs that services call, never a user."""
        return f"{self.install_dir}/libexec"

    @property
    def scripts_dir(self) -> str:
        return f"{self.install_dir}/scripts"

    @property
    def backups_dir(self) -> str:
        return f"{self.install_dir}/backups"

    @property
    def releases_dir(self) -> str:
        return f"{self.install_dir}/releases"

    @property
    def current_link(self) -> str:
        """Symlink to the release in use, switched atomically."""
        return f"{self.install_dir}/current"

    @property
    def installer_dir(self) -> str:
        """The virtual environment of `nqr` itself."""
        return f"{self.install_dir}/installer"

    # --- configuration
    @property
    def manager_env(self) -> str:
        return f"{self.config_dir}/manager.env"

    @property
    def agent_env(self) -> str:
        return f"{self.config_dir}/agent.env"

    @property
    def ui_env(self) -> str:
        return f"{self.config_dir}/ui.env"

    @property
    def config_yaml(self) -> str:
        return f"{self.config_dir}/config.yaml"

    @property
    def bootstrap_json(self) -> str:
        """Hashes of the first administrator, CLI token and join token. The manager reads them again when they change."""
        return f"{self.config_dir}/bootstrap.json"

    @property
    def admin_password_file(self) -> str:
        return f"{self.config_dir}/admin-password"

    @property
    def database_password_file(self) -> str:
        """The password of the database, for the manager. 0640 root:nqrust."""
        return f"{self.config_dir}/database-password"

    @property
    def database_ca_file(self) -> str:
        """A copy of the authority of a database on another machine (`--db-ca`). 0644."""
        return f"{self.config_dir}/database-ca.crt"

    @property
    def cli_token_file(self) -> str:
        """The token of root's `nqr vm|image|host` for the manager. 0600 root."""
        return f"{self.config_dir}/cli-token"

    @property
    def join_token_file(self) -> str:
        return f"{self.config_dir}/join-token"

    @property
    def dnsmasq_conf(self) -> str:
        return f"{self.config_dir}/dnsmasq.conf"

    @property
    def tls_dir(self) -> str:
        return f"{self.config_dir}/tls"

    @property
    def ca_file(self) -> str:
        """The certificate authority of this installation. Clients on other machines need a copy."""
        return f"{self.tls_dir}/ca.crt"

    @property
    def ca_key_file(self) -> str:
        """Signs the certificates of manager, agents and web UI. Only root and the manager read it."""
        return f"{self.tls_dir}/ca.key"

    @property
    def own_certificate(self) -> str:
        """The operator's certificate for the web UI and the API (`--tls-cert`)."""
        return f"{self.tls_dir}/own.crt"

    @property
    def own_key(self) -> str:
        return f"{self.tls_dir}/own.key"

    @property
    def own_ui(self) -> str:
        """The same key and certificate, for the web UI's user."""
        return f"{self.tls_dir}/own-ui.pem"

    # --- data
    @property
    def vms_dir(self) -> str:
        return f"{self.data_dir}/vms"

    @property
    def image_cache_dir(self) -> str:
        """Boot files of this host's VMs, by their digest."""
        return f"{self.data_dir}/images-cache"

    @property
    def volumes_dir(self) -> str:
        """Volumes that outlive their VMs."""
        return f"{self.data_dir}/volumes"


# --- state (does not move)
JOURNAL = f"{STATE_DIR}/journal.jsonl"
ORIGINALS_DIR = f"{STATE_DIR}/originals"
FINGERPRINT = f"{STATE_DIR}/fingerprint.json.gz"
"""State of the host before the first change."""
UNDO_SCRIPT = f"{STATE_DIR}/undo.sh"
"""Undoes everything without nqr and without Python; updated with the receipt. 0700, because it contains originals."""
SECRETS_JSON = f"{STATE_DIR}/secrets.json"
REACH_ENV = f"{STATE_DIR}/reach.env"
"""Proxies, mirrors and certificates that the installation was made with, for later runs. 0600 root, for they may hold
passwords."""
NEWEST_RELEASES = f"{STATE_DIR}/newest-releases.json"
"""The newest version that this host has seen from each release key."""
VMM_VERDICT = f"{STATE_DIR}/vmm.json"
AGENT_STATE_DIR = f"{STATE_DIR}/agent"
AGENT_CREDENTIALS = f"{AGENT_STATE_DIR}/credentials.json"
GOES_DOWN = "goes-down"
"""A file in the agent's state folder. nqr writes it before it stops the agent with the platform: for how many seconds the agent
then asks guests to power off."""
DHCP_STATE_DIR = f"{STATE_DIR}/dhcp"
DHCP_HOSTS_DIR = f"{DHCP_STATE_DIR}/hosts.d"
DHCP_LEASES = f"{DHCP_STATE_DIR}/leases"
MANAGER_TLS_DIR = f"{STATE_DIR}/manager-tls"
"""Where the manager writes the web UI's certificate. Its group is the web UI's."""
UI_CERT = f"{MANAGER_TLS_DIR}/ui.pem"
LOCK_FILE = "/run/nqrust-install.lock"
