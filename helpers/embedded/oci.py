"""Container images without a builder: an OCI layout archive written straight from files.

A layer is a tar of files taken from this machine, written in a fixed order with fixed owners and
times, so that the same content gives the same digest. Layers are left uncompressed: the archives
never travel, and unpacking gzip would cost more time than reading the bytes.

Format: https://github.com/opencontainers/image-spec (image-layout.md, config.md, layer.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
EPOCH = "1970-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Entry:
    """One file of a layer: its path in the image and where its content comes from.

    `source` is a path on this machine (a symbolic link stays one), `content` is literal bytes, `link`
    the target of a symbolic link, and none of them makes a directory. `mode` overrides the source's
    permissions.
    """

    path: str
    source: Path | None = None
    content: bytes | None = None
    link: str | None = None
    mode: int | None = None
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Layer:
    """What one layer holds."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of_files(cls, files: Mapping[str, Path | bytes], *, mode: int | None = None) -> Layer:
        """A layer of single files: path in the image -> path here, or literal content."""
        entries = [
            Entry(path, content=source, mode=mode)
            if isinstance(source, bytes)
            else Entry(path, source=source, mode=mode)
            for path, source in files.items()
        ]
        return cls(tuple(entries))

    @classmethod
    def of_tree(cls, root: Path, prefix: str = "/", *, keep: Callable[[Path], bool] | None = None) -> Layer:
        """A layer of everything under `root`, placed at `prefix`.

        `keep` is asked for every path relative to `root`; a directory refused is not descended into.
        """
        return cls(tuple(_walk(root, prefix, keep)))


@dataclass(frozen=True)
class _Blob:
    path: Path
    digest: str
    size: int
    media_type: str

    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def write_image(
    archive: Path,
    reference: str,
    layers: Sequence[Layer],
    *,
    entrypoint: Sequence[str] = (),
    cmd: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    user: str = "",
    workdir: str = "",
    labels: Mapping[str, str] | None = None,
) -> str:
    """Write an image as an OCI archive that `ctr images import` takes, and return its manifest digest.

    `reference` is the full name kubelets ask for, such as `registry.k8s.io/pause:3.10.2`. The archive
    appears at once and whole: it is written beside its final place and renamed.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".image-") as folder:
        work = Path(folder)
        blobs = [_write_layer(layer, work / f"layer-{number}") for number, layer in enumerate(layers)]
        options = {
            "Entrypoint": list(entrypoint) or None,
            "Cmd": list(cmd) or None,
            "Env": [f"{key}={value}" for key, value in (env or {}).items()] or None,
            "User": user or None,
            "WorkingDir": workdir or None,
            "Labels": dict(labels or {}) or None,
        }
        config = _json_blob(work / "config", CONFIG_TYPE, _config(blobs, options))
        manifest = _json_blob(work / "manifest", MANIFEST_TYPE, _manifest(config, blobs))
        index = _index(manifest, reference)
        _write_archive(work / "archive", index, [*blobs, config, manifest])
        (work / "archive").replace(archive)
    return manifest.digest


def _walk(root: Path, prefix: str, keep: Callable[[Path], bool] | None) -> Iterator[Entry]:
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        kept = [name for name in sorted(folders) if keep is None or keep((here / name).relative_to(root))]
        links = [name for name in kept if (here / name).is_symlink()]
        folders[:] = [name for name in kept if name not in links]
        chosen = [name for name in files if keep is None or keep((here / name).relative_to(root))]
        for name in sorted([*folders, *links, *chosen]):
            source = here / name
            yield Entry(str(Path(prefix) / source.relative_to(root)), source=source)


def _write_layer(layer: Layer, target: Path) -> _Blob:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for entry in _with_parents(layer.entries):
            _add(tar, entry)
    with target.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return _Blob(target, f"sha256:{digest}", target.stat().st_size, LAYER_TYPE)


def _with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """Entries in path order, each directory before what is in it."""
    by_path = {entry.path.strip("/"): entry for entry in entries}
    for path in list(by_path):
        for parent in Path(path).parents:
            by_path.setdefault(str(parent), Entry(str(parent)))
    by_path.pop(".", None)
    return [by_path[path] for path in sorted(by_path)]


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path.strip("/"))
    info.uid, info.gid = entry.uid, entry.gid
    if entry.content is not None:
        info.size, info.mode = len(entry.content), entry.mode or 0o644
        tar.addfile(info, io.BytesIO(entry.content))
        return
    if entry.link is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
        tar.addfile(info)
        return
    if entry.source is None:
        info.type, info.mode = tarfile.DIRTYPE, entry.mode or 0o755
        tar.addfile(info)
        return
    status = entry.source.lstat()
    info.mode = entry.mode if entry.mode is not None else stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(entry.source.readlink())
        tar.addfile(info)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
        with entry.source.open("rb") as stream:
            tar.addfile(info, stream)


def _config(layers: Sequence[_Blob], options: Mapping[str, object]) -> dict[str, object]:
    return {
        "created": EPOCH,
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {key: value for key, value in options.items() if value is not None},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "history": [{"created": EPOCH} for _ in layers],
    }


def _manifest(config: _Blob, layers: Sequence[_Blob]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }


def _index(manifest: _Blob, reference: str) -> dict[str, object]:
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    described = {**manifest.descriptor(), "annotations": names}
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [described]}


def _json_blob(path: Path, media_type: str, document: object) -> _Blob:
    content = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    path.write_bytes(content)
    return _Blob(path, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), media_type)


def _write_archive(target: Path, index: object, blobs: Iterable[_Blob]) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add_bytes(tar, "index.json", json.dumps(index, sort_keys=True).encode())
        # Two layers may be equal, such as two empty ones: a blob is written once.
        for blob in {blob.digest: blob for blob in blobs}.values():
            with blob.path.open("rb") as stream:
                _add_stream(tar, f"blobs/{blob.digest.replace(':', '/')}", blob.size, stream)


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _add_stream(tar, name, len(content), io.BytesIO(content))


def _add_stream(tar: tarfile.TarFile, name: str, size: int, stream: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, stream)
