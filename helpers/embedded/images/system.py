"""Images of the cluster's own parts, under the names kubeadm asks for, from the commands built here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.embedded.binaries import BIN, KUBERNETES, Binaries
from helpers.embedded.oci import Entry, Layer, write_image

ETCD_TAG = "3.6.8-0"
COREDNS_TAG = "v1.14.2"
PAUSE = "registry.k8s.io/pause:3.10.2"
BUSYBOX = "course.local/busybox:1"
PROVISIONER = "docker.io/rancher/local-path-provisioner:v0.0.30"
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
APPLETS = [
    "sh",
    "ls",
    "cat",
    "cp",
    "mv",
    "rm",
    "mkdir",
    "rmdir",
    "chmod",
    "chown",
    "ln",
    "find",
    "grep",
    "sed",
    "awk",
    "head",
    "tail",
    "sort",
    "tr",
    "wc",
    "sleep",
    "env",
    "id",
    "ps",
    "kill",
    "nc",
    "wget",
    "ping",
    "nslookup",
    "ip",
    "hostname",
    "date",
    "df",
    "du",
    "tar",
    "true",
    "false",
    "test",
    "stat",
    "touch",
    "vi",
    "xargs",
]


@dataclass(frozen=True)
class SystemImage:
    """One image: its name, the commands in it (path in the image -> file here), and how it starts."""

    reference: str
    files: dict[str, Path]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    with_shell: bool = False

    def write(self, archive: Path, root: Path) -> str:
        """Write the image as an OCI archive; `root` is the Debian root that a shell is taken from."""
        layers = [base()]
        if self.with_shell:
            layers.append(shell(root))
        layers.append(Layer.of_files(dict(self.files), mode=0o755))
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return write_image(
            archive, self.reference, layers, entrypoint=self.entrypoint, cmd=self.cmd, env={"PATH": path}
        )


def system_images(binaries: Binaries, root: Path) -> Sequence[SystemImage]:
    """Every image a new cluster needs before any workload."""
    return [
        *[
            _command(f"registry.k8s.io/{name}:{KUBERNETES}", binaries.path(name))
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        ],
        _command(f"registry.k8s.io/etcd:{ETCD_TAG}", binaries.path("etcd")),
        SystemImage(
            f"registry.k8s.io/coredns/coredns:{COREDNS_TAG}",
            {"/coredns": binaries.path("coredns")},
            entrypoint=("/coredns",),
        ),
        SystemImage(PAUSE, {"/pause": root / "usr/bin/catatonit"}, entrypoint=("/pause", "-P")),
        _command(PROVISIONER, binaries.path("local-path-provisioner")),
        SystemImage(BUSYBOX, {}, cmd=("sh",), with_shell=True),
        SystemImage(
            AGNHOST,
            {"/agnhost": binaries.path("agnhost")},
            entrypoint=("/agnhost",),
            cmd=("pause",),
            with_shell=True,
        ),
    ]


def shell(root: Path) -> Layer:
    """A layer with one static busybox and its usual names."""
    busybox = "/bin/busybox"
    links = [Entry(f"/bin/{applet}", link=busybox) for applet in APPLETS]
    return Layer((Entry(busybox, source=root / "bin/busybox", mode=0o755), *links))


def _command(reference: str, command: Path) -> SystemImage:
    return SystemImage(reference, {f"/{BIN / command.name}": command}, cmd=(command.name,))


def base() -> Layer:
    """What programs expect of any root: a place for temporary files, and names for user ids."""
    users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    return Layer(
        (
            Entry("/tmp", mode=0o1777),
            Entry("/etc/passwd", content=users),
            Entry("/etc/group", content=b"root:x:0:\nnobody:x:65534:\n"),
        )
    )
