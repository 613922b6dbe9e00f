"""Hostile and damaged bundles: each is refused, and nothing of it arrives on the host."""

from __future__ import annotations

import hashlib
import io
import platform
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nqrust.host.facts import os as os_facts
from nqrust.host.facts.model import Os
from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import NqrError, ReleaseError, StepFailed
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.operations.bundling import verify_bundle
from nqrust.installer.release import newest
from nqrust.installer.release.build import render as render_release
from nqrust.installer.release.bundle import archive, contents
from nqrust.installer.release.bundle.opening import open_bundle
from nqrust.installer.release.bundle.unpack_step import UnpackBundle
from nqrust.installer.release.bundled import COMPONENTS
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.remember_step import RememberRelease
from nqrust.installer.release.sources import open_source, source_steps
from nqrust.installer.settings.model import Settings

PYTHON = ".".join(platform.python_version_tuple()[:2])
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
WHEEL, PACKAGE = "wheels/six-1.0-py3-none-any.whl", "packages/screen_4.9.0-4_amd64.deb"


def descriptor(version: str = "0.5.0") -> bytes:
    return render_release(Release(form="bundled", version=version, components=COMPONENTS))


@dataclass
class Draft:
    """A bundle to spoil. `order` and `members` say what the archive holds, the rest what its list says."""

    version: str = "0.5.0"
    system: str = "debian-12"
    python: str = PYTHON
    files: dict[str, bytes] = field(default_factory=dict)
    size: int | None = None
    extra: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)
    listed: Callable[[bytes], bytes] = lambda raw: raw
    signer: Ed25519PrivateKey | None = KEY
    carried: Callable[[dict[str, bytes]], dict[str, bytes]] = dict

    def __post_init__(self) -> None:
        self.files = self.files or {
            contents.FIRST: descriptor(self.version),
            WHEEL: b"wheel" * 100,
            "kernel/packages.json": b"{}\n",
            PACKAGE: b"deb" * 1000,
        }

    @property
    def list(self) -> bytes:
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        size = sum(map(len, self.files.values())) if self.size is None else self.size
        return self.listed(contents.render(contents.Contents(self.version, self.system, self.python, size, digests)))

    def tar(self) -> bytes:
        packed = io.BytesIO()
        listed = self.list
        members = {contents.LIST: listed}
        if self.signer is not None:
            members[archive.SIGNATURE] = self.signer.sign(listed)
        members.update({name: self.files[name] for name in sorted(self.files, key=contents.order)})
        for name, data in self.carried(members).items():
            packed.write(block(entry(name, len(data))) + padded(data))
        for info, data in self.extra:
            packed.write(block(info) + padded(data))
        return packed.getvalue() + bytes(1024)

    def write(self, path: Path) -> Path:
        path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(self.tar()))
        return path


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mtime = size, kind, link, archive.MTIME
    return info


def block(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.USTAR_FORMAT)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


@pytest.fixture(autouse=True)
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_facts, "probe", lambda host: Os("debian", "12"))


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key.pub"
    path.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(path)


def unpacked(path: Path, key_file: str | None, cache: Path) -> UnpackBundle:
    """Open and unpack, as an install does."""
    bundle = open_bundle(LocalHost(), str(path), key_file, str(cache))
    step = bundle.steps(lambda text, fraction: None)[-1]
    assert isinstance(step, UnpackBundle) and isinstance(step.inspect(LocalHost()), Needed)
    step.apply(LocalHost())
    step.verify(LocalHost())
    return step


def arrived(cache: Path) -> list[str]:
    """Files of bundles that a later step would take."""
    return [str(path) for path in cache.glob("bundles/*") if not path.name.endswith(".new")]


def test_good_bundle_is_verified_and_unpacked(tmp_path: Path, key_file: str) -> None:
    path = Draft().write(tmp_path / "good.tar.zst")
    assert verify_bundle(str(path), key_file).files == 4
    step = unpacked(path, key_file, tmp_path / "cache")
    assert (Path(step.directory) / PACKAGE).read_bytes() == b"deb" * 1000
    assert (Path(step.directory) / contents.FIRST).read_bytes() == descriptor()
    assert step.signed_by == newest.key_id(KEY.public_key())


def swap(members: dict[str, bytes]) -> dict[str, bytes]:
    return {**members, WHEEL: members[PACKAGE], PACKAGE: members[WHEEL]}


def flip(name: str, at: int = 0) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def spoil(members: dict[str, bytes]) -> dict[str, bytes]:
        data = bytearray(members[name])
        data[at] ^= 1
        return {**members, name: bytes(data)}

    return spoil


def without(name: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda members: {key: data for key, data in members.items() if key != name}


def line(name: str) -> Callable[[bytes], bytes]:
    """A list that names one more file."""
    return lambda raw: raw + f"{'0' * 64}  {name}\n".encode()


def older(members: dict[str, bytes]) -> dict[str, bytes]:
    """The good list and signature of an older release, before the files of this one."""
    old = Draft(version="0.4.0")
    return {**members, contents.LIST: old.list, archive.SIGNATURE: KEY.sign(old.list)}


HOSTILE: dict[str, tuple[Draft, set[str]]] = {
    "one bit of a wheel": (Draft(carried=flip(WHEEL)), {"NQR-REL-062"}),
    "one bit of a package": (Draft(carried=flip(PACKAGE, -1)), {"NQR-REL-062"}),
    "one bit of the descriptor": (Draft(carried=flip(contents.FIRST, 5)), {"NQR-REL-062"}),
    "one bit of the list": (Draft(carried=flip(contents.LIST, -3)), {"NQR-REL-024", "NQR-REL-061"}),
    "one bit of the signature": (Draft(carried=flip(archive.SIGNATURE, 7)), {"NQR-REL-024"}),
    "swapped files": (Draft(carried=swap), {"NQR-REL-062"}),
    "another key": (Draft(signer=OTHER), {"NQR-REL-024"}),
    "no signature": (Draft(signer=None), {"NQR-REL-024"}),
    "an older list": (Draft(carried=older), {"NQR-REL-062"}),
    "a missing file": (Draft(carried=without(PACKAGE)), {"NQR-REL-061"}),
    "a missing list": (Draft(carried=without(contents.LIST)), {"NQR-REL-061"}),
    "a missing descriptor": (Draft(carried=without(contents.FIRST)), {"NQR-REL-061"}),
    "a file that is not listed": (Draft(extra=[(entry("packages/more.deb", 3), b"abc")]), {"NQR-REL-061"}),
    "a file twice": (Draft(extra=[(entry(PACKAGE, 3), b"abc")]), {"NQR-REL-061"}),
    "an absolute path": (Draft(extra=[(entry("/etc/passwd", 3), b"abc")]), {"NQR-REL-061"}),
    "a parent folder": (Draft(extra=[(entry("packages/../../x", 3), b"abc")]), {"NQR-REL-061"}),
    "a symbolic link": (Draft(extra=[(entry("packages/x", 0, tarfile.SYMTYPE, "/etc"), b"")]), {"NQR-REL-061"}),
    "a hard link": (Draft(extra=[(entry("packages/x", 0, tarfile.LNKTYPE, "/etc/passwd"), b"")]), {"NQR-REL-061"}),
    "a device": (Draft(extra=[(entry("packages/x", 0, tarfile.BLKTYPE), b"")]), {"NQR-REL-061"}),
    "a FIFO": (Draft(extra=[(entry("packages/x", 0, tarfile.FIFOTYPE), b"")]), {"NQR-REL-061"}),
    "a folder": (Draft(extra=[(entry("packages/x", 0, tarfile.DIRTYPE), b"")]), {"NQR-REL-061"}),
    "an extended header": (Draft(extra=[(entry("packages/x", 512, tarfile.XHDTYPE), bytes(512))]), {"NQR-REL-061"}),
    "a sparse file": (Draft(extra=[(entry("packages/x", 0, tarfile.GNUTYPE_SPARSE), b"")]), {"NQR-REL-061"}),
    "an absolute path in the list": (Draft(listed=line("/etc/passwd")), {"NQR-REL-061"}),
    "a parent folder in the list": (Draft(listed=line("packages/../x")), {"NQR-REL-061"}),
    "another folder in the list": (Draft(listed=line("zoo/x")), {"NQR-REL-061"}),
    "a hidden file in the list": (Draft(listed=line("packages/.apt/sources.list")), {"NQR-REL-061"}),
    "a file twice in the list": (Draft(listed=line(PACKAGE)), {"NQR-REL-061"}),
    "a file that is a folder too": (Draft(listed=line(f"{PACKAGE}/x")), {"NQR-REL-061"}),
    "a list out of order": (Draft(listed=line("packages/a")), {"NQR-REL-061"}),
    "a second size": (Draft(listed=lambda raw: b"# size: 9\n" + raw), {"NQR-REL-061"}),
    "more than its size": (Draft(size=3000), {"NQR-REL-061"}),
    "another product": (Draft(listed=lambda raw: raw.replace(b"nqrust-microvm", b"other")), {"NQR-REL-029"}),
    "another version": (Draft(files={contents.FIRST: descriptor("0.6.0")}), {"NQR-REL-060"}),
    "another system": (Draft(system="debian-13"), {"NQR-REL-063"}),
    "another Python": (Draft(python="3.9"), {"NQR-REL-063"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bundle_is_refused_and_leaves_nothing(name: str, tmp_path: Path, key_file: str) -> None:
    draft, codes = HOSTILE[name]
    path, cache = draft.write(tmp_path / "b.tar.zst"), tmp_path / "cache"
    with pytest.raises(NqrError) as refused:
        unpacked(path, key_file, cache)
    assert refused.value.code in codes
    assert arrived(cache) == []
    assert not (tmp_path / "x").exists()
    if codes != {"NQR-REL-063"}:
        with pytest.raises(NqrError):
            verify_bundle(str(path), key_file)


def bomb(path: Path) -> None:
    """Gigabytes of zeros behind a good list, as its first wheel."""
    draft = Draft()
    info = entry(WHEEL, (1 << 33) - 1)
    packer = zstandard.ZstdCompressor().compressobj()
    listed = draft.list
    start = b""
    for name, data in ((contents.LIST, listed), (archive.SIGNATURE, KEY.sign(listed)), (contents.FIRST, descriptor())):
        start += block(entry(name, len(data))) + padded(data)
    path.write_bytes(packer.compress(start + block(info) + bytes(1 << 24)) + packer.flush())


def huge(path: Path) -> None:
    """A size that only GNU's form of a header can hold."""
    info = entry(WHEEL, 1 << 40)
    path.write_bytes(zstandard.ZstdCompressor().compress(Draft().tar()[:-1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def window(path: Path) -> None:
    """A frame that asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2)."""
    path.write_bytes(bytes.fromhex("28b52ffd 00 a8 000000".replace(" ", "")) + bytes(64))


def cut(path: Path) -> None:
    data = Draft().write(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def one_bit(path: Path) -> None:
    data = bytearray(Draft().write(path).read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def behind_the_end(path: Path) -> None:
    path.write_bytes(zstandard.ZstdCompressor().compress(Draft().tar() + b"x"))


def between(path: Path) -> None:
    tar = bytearray(Draft().tar())
    tar[512 + len(Draft().list)] = 1  # the space behind the list
    path.write_bytes(zstandard.ZstdCompressor().compress(bytes(tar)))


@pytest.mark.parametrize(
    "make",
    [
        bomb,
        huge,
        window,
        cut,
        one_bit,
        behind_the_end,
        between,
        lambda path: path.write_bytes(b"PK"),
        lambda path: path.write_bytes(b""),
    ],
)
def test_damaged_file_is_refused_and_leaves_nothing(make: Callable[[Path], None], tmp_path: Path, key_file: str) -> None:
    path, cache = tmp_path / "b.tar.zst", tmp_path / "cache"
    make(path)
    with pytest.raises(ReleaseError) as refused:
        unpacked(path, key_file, cache)
    assert refused.value.code in ("NQR-REL-060", "NQR-REL-061")
    assert arrived(cache) == []


def test_each_changed_byte_is_noticed(tmp_path: Path, key_file: str) -> None:
    """Of list, signature, headers, files and the space between them. Without zstd's own checksum, which finds it too."""
    tar, path = Draft().tar(), tmp_path / "b.tar.zst"
    unnoticed = []
    for at in range(0, len(tar), 5):
        spoiled = bytearray(tar)
        spoiled[at] ^= 1 << (at % 8)
        path.write_bytes(zstandard.ZstdCompressor(level=1).compress(bytes(spoiled)))
        try:
            verify_bundle(str(path), key_file)
        except ReleaseError:
            continue
        unnoticed.append(at)
    assert unnoticed == []


def test_bundle_replaced_between_plan_and_install_is_refused(tmp_path: Path, key_file: str) -> None:
    path, cache = Draft().write(tmp_path / "b.tar.zst"), tmp_path / "cache"
    step = open_bundle(LocalHost(), str(path), key_file, str(cache)).steps(lambda text, fraction: None)[-1]
    Draft(version="0.4.0", signer=OTHER).write(path)
    with pytest.raises(ReleaseError) as refused:
        step.apply(LocalHost())
    assert refused.value.code == "NQR-REL-062" and arrived(cache) == []


def test_signed_bundle_is_remembered_so_that_an_older_one_is_noticed(tmp_path: Path, key_file: str) -> None:
    path = Draft().write(tmp_path / "b.tar.zst")
    wanted = Settings.model_validate({"release": {"source": str(path), "public_key": key_file}})
    opened = open_source(LocalHost(), wanted, "", str(tmp_path / "cache"), NullReporter())
    steps = source_steps(wanted, "", opened, str(tmp_path / "cache"))
    assert [type(step) for step in steps] == [RememberRelease, UnpackBundle]
    assert opened.signed_by == newest.key_id(KEY.public_key()) and opened.release.version == "0.5.0"


def test_unpacked_bundle_stays_usable_without_its_file(tmp_path: Path, key_file: str) -> None:
    path, cache = Draft().write(tmp_path / "b.tar.zst"), tmp_path / "cache"
    step = unpacked(path, key_file, cache)
    assert isinstance(step.inspect(LocalHost()), Satisfied)
    path.unlink()
    again = open_bundle(LocalHost(), str(path), key_file, str(cache))
    assert (again.directory, again.signed_by, again.steps(lambda text, fraction: None)) == (step.directory, step.signed_by, ())
    with pytest.raises(ReleaseError) as missing:
        open_bundle(LocalHost(), str(tmp_path / "other.tar.zst"), key_file, str(cache))
    assert missing.value.code == "NQR-REL-019"


def test_unpacked_bundle_does_not_stand_for_another_key(tmp_path: Path, key_file: str) -> None:
    path, cache = Draft(signer=None).write(tmp_path / "b.tar.zst"), tmp_path / "cache"
    unpacked(path, None, cache)
    path.unlink()
    assert open_bundle(LocalHost(), str(path), None, str(cache)).signed_by == ""
    for key in (key_file, str(tmp_path / "key-on-a-stick")):
        with pytest.raises(ReleaseError) as refused:
            open_bundle(LocalHost(), str(path), key, str(cache))
        assert refused.value.code == "NQR-REL-019"


def test_bundle_that_is_pulled_out_meanwhile_is_refused(tmp_path: Path) -> None:
    path, cache = Draft().write(tmp_path / "b.tar.zst"), tmp_path / "cache"
    step = open_bundle(LocalHost(), str(path), None, str(cache)).steps(lambda text, fraction: None)[-1]
    path.unlink()
    with pytest.raises(StepFailed) as refused:
        step.apply(LocalHost())
    assert refused.value.code == "NQR-REL-065" and arrived(cache) == []


def test_images_of_a_bundle_are_known_before_and_after_it_is_unpacked(tmp_path: Path, key_file: str) -> None:
    draft = Draft()
    draft.files |= {"images/container-runtime/image.json": b"{}", "images/container-runtime/rootfs.ext4": b"x"}
    path, cache = draft.write(tmp_path / "b.tar.zst"), tmp_path / "cache"
    assert open_bundle(LocalHost(), str(path), key_file, str(cache)).images == ("container-runtime",)
    unpacked(path, key_file, cache)
    path.unlink()
    assert open_bundle(LocalHost(), str(path), key_file, str(cache)).images == ("container-runtime",)
