"""Images written without a builder: valid, reproducible, and whole."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

from helpers.embedded.oci import Entry, Layer, write_image


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def test_every_blob_is_named_by_its_own_digest(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tar", "example.test/a:1", [Layer.of_files({"/bin/a": b"a"})])
    stored = blobs(tmp_path / "a.tar")
    named = {name: content for name, content in stored.items() if name.startswith("blobs/sha256/")}
    assert len(named) == 3
    assert all(
        name.rsplit("/", 1)[1] == hashlib.sha256(content).hexdigest() for name, content in named.items()
    )


def test_the_index_carries_the_name_containerd_imports(tmp_path: Path) -> None:
    digest = write_image(tmp_path / "a.tar", "example.test/a:1", [Layer.of_files({"a": b"a"})])
    (manifest,) = json.loads(blobs(tmp_path / "a.tar")["index.json"])["manifests"]
    assert manifest["digest"] == digest
    assert manifest["annotations"]["io.containerd.image.name"] == "example.test/a:1"


def test_the_same_content_gives_the_same_digest(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        root = tmp_path / f"root{number}"
        (root / "etc").mkdir(parents=True)
        (root / "etc" / "b").write_text("b")
        (root / "etc" / "a").symlink_to("b")
        digests.add(write_image(tmp_path / f"{number}.tar", "x.test/x:1", [Layer.of_tree(root, "/opt")]))
    assert len(digests) == 1


def test_a_tree_keeps_links_and_modes_and_skips_what_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "skip").mkdir()
    (root / "skip" / "me").write_text("no")
    (root / "bin" / "tool").write_text("#!/bin/sh\n")
    (root / "bin" / "tool").chmod(0o755)
    (root / "link").symlink_to("bin", target_is_directory=True)
    layer = Layer.of_tree(root, "/opt", keep=lambda path: path.parts[0] != "skip")
    write_image(tmp_path / "a.tar", "x.test/x:1", [layer])
    members = _layer_members(tmp_path / "a.tar")
    assert sorted(members) == ["opt", "opt/bin", "opt/bin/tool", "opt/link"]
    assert members["opt/bin/tool"].mode == 0o755
    assert members["opt/link"].linkname == "bin"


def test_options_land_in_the_image_config(tmp_path: Path) -> None:
    write_image(
        tmp_path / "a.tar",
        "x.test/x:1",
        [Layer((Entry("/data", uid=1000, gid=1000),))],
        entrypoint=["/a"],
        env={"PATH": "/bin"},
        user="1000:1000",
        workdir="/data",
    )
    config = _config(tmp_path / "a.tar")
    assert config["config"] == {
        "Entrypoint": ["/a"],
        "Env": ["PATH=/bin"],
        "User": "1000:1000",
        "WorkingDir": "/data",
    }
    assert _layer_members(tmp_path / "a.tar")["data"].uid == 1000


def _manifest(archive: Path) -> dict:
    stored = blobs(archive)
    (manifest,) = json.loads(stored["index.json"])["manifests"]
    return json.loads(stored["blobs/" + manifest["digest"].replace(":", "/")])


def _config(archive: Path) -> dict:
    return json.loads(blobs(archive)["blobs/" + _manifest(archive)["config"]["digest"].replace(":", "/")])


def _layer_members(archive: Path) -> dict[str, tarfile.TarInfo]:
    digest = _manifest(archive)["layers"][0]["digest"]
    blob = archive.parent / "layer.tar"
    blob.write_bytes(blobs(archive)["blobs/" + digest.replace(":", "/")])
    with tarfile.open(blob) as tar:
        return {member.name: member for member in tar}
