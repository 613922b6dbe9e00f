"""A container host: Docker runs, with its FORWARD policy DROP and its rules, and a container network of its own."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
mkdir -p /etc/docker
echo '{"storage-driver": "vfs"}' >/etc/docker/daemon.json
systemctl enable -q docker containerd
systemctl restart docker
docker network create --subnet 172.29.0.0/24 shop >/dev/null
mkdir -p /tmp/box/bin && cp /bin/busybox /tmp/box/bin/ && echo 'of the shop' >/tmp/box/page
tar -C /tmp/box -c . | docker import - box >/dev/null
rm -r /tmp/box
docker run -d --name web --network shop --ip 172.29.0.5 --publish 8080:80 --restart always box /bin/busybox httpd -f -h / >/dev/null
"""
READY = """
iptables-save | grep -q '^:FORWARD DROP'
python3 -c "import urllib.request as r; r.urlopen('http://172.29.0.5/page', timeout=5)"
"""
NEIGHBOUR = """
docker info --format '{{.Driver}} {{.ServerVersion}}'
docker network ls --format '{{.Name}} {{.Driver}}' | sort
iptables-save | grep '^-A DOCKER\\|^:DOCKER\\|^:FORWARD\\|^-A FORWARD .*\\(docker0\\|br-\\|DOCKER\\)\\|MASQUERADE' | grep -v NQR- | sed 's/\\[[0-9:]*\\]//'
systemctl show -p MainPID,ActiveState docker containerd
ip -o -4 address show dev docker0 | sed 's,^[0-9]*: ,,'
docker ps --format '{{.Names}} {{.Image}} {{.Ports}} {{.State}}'
python3 -c "import urllib.request as r
for url in ('http://172.29.0.5/page', 'http://127.0.0.1:8080/page'): print(r.urlopen(url, timeout=10).read().decode())"
"""

MACHINE = BaseMachine(
    name="docker",
    says="Debian 12 with Docker and a container that serves",
    packages=("iproute2", "ca-certificates", "python3", "sudo", "docker.io", "iptables", "busybox-static"),
    setup=SETUP,
    ready=READY,
    neighbour=NEIGHBOUR,
    meanwhile="systemctl restart docker",
    # containerd serves its API of streams on a port that it draws at each start.
    moves=r"^files /var/lib/(docker|containerd)/|^(links|sysctls) \S*veth|^listening tcp 127\.0\.0\.1:[34]\d{4}$",
    unified=True,
    inits=("systemd",),
)
