"""Run PyPI's x86_64 PyTorch on a machine without CUDA, and without 3 GB of CUDA libraries.

PyPI's x86_64 wheel is a CUDA build: libtorch_python.so and libtorch_cpu.so are linked against
libtorch_cuda.so and a dozen NVIDIA libraries, so importing it fails where they are missing, even
though an eager CPU server never calls them. For each such library this module generates a small
shared library with the same SONAME that exports exactly the symbols the kept libraries ask for.
CUDA runtime calls answer "no device"; any other call aborts and prints the symbol's name.

PyTorch's own CPU wheel needs none of this: `plan_stubs` is then empty.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT = (
    "libtorch_python.so",
    "libtorch_cpu.so",
    "libtorch.so",
    "libc10.so",
    "libc10_cuda.so",
    "libshm.so",
    "libtorch_global_deps.so",
)
CUDA_LIBRARY = "libtorch_cuda.so"
DROPPED = ("libtorch_cuda_linalg.so", "libtorch_nvshmem.so", "libcaffe2_nvrtc.so")
ACCELERATOR_SONAME = re.compile(r"lib(cu|nv|nccl|torch_cuda)")

# Symbols without a version are told apart by their prefix.
PREFIXES = {
    "nccl": "libnccl",
    "cudnn": "libcudnn",
    "cuFile": "libcufile",
    "cupti": "libcupti",
    "cuda": "libcudart",
    "__cuda": "libcudart",
}
# libraries whose calls may be made while torch is imported: they answer with an error code
ANSWERS_ERROR = ("libcudart", "libcupti", "libnccl", "libcudnn", "libcufile")
CUDA_ERROR_NO_DEVICE = 100
GENERIC_ERROR = 1
# libtorch_python.so writes through the reference this returns while it is being loaded
RETURNS_REFERENCE = "_ZN4c10d15get_gil_checkerEv"
# the default argument of a pybind11 signature constructs one: it needs a vtable with type information
OPTIONS_CONSTRUCTOR = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb"
CLASS_TYPE_INFO = "_ZTVN10__cxxabiv117__class_type_infoE+16"

TRAP_SOURCE = """\
#include <stdio.h>
#include <stdlib.h>
__attribute__((visibility("hidden"))) void stub_trap(const char *name) {
    fprintf(stderr, "PyTorch CUDA stub called: %s\\n", name);
    abort();
}
"""


@dataclass(frozen=True)
class Symbol:
    """One entry of a dynamic symbol table; `kind` is FUNC, OBJECT, TLS or NOTYPE."""

    name: str
    version: str | None
    kind: str
    defined: bool
    size: int


Stubs = dict[str, dict[str, Symbol]]
"""SONAME of a stub library to the symbols it must export."""


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def parse_symbols(readelf_output: str) -> list[Symbol]:
    """Read the table that `readelf -W --dyn-syms` prints."""
    symbols = []
    for line in readelf_output.splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        name, _, version = fields[7].partition("@")
        symbols.append(
            Symbol(name, version.lstrip("@") or None, fields[3], fields[6] != "UND", int(fields[2], 0))
        )
    return symbols


def parse_version_providers(readelf_output: str) -> dict[str, str]:
    """Symbol version to the SONAME that provides it, from `readelf -W -V`."""
    providers: dict[str, str] = {}
    soname = None
    for line in readelf_output.splitlines():
        if found := re.search(r"File: (\S+)", line):
            soname = found.group(1)
        if (found := re.search(r"Name: (\S+)\s+Flags", line)) and soname:
            providers[found.group(1)] = soname
    return providers


def _symbols(library: Path) -> list[Symbol]:
    return parse_symbols(_run("readelf", "-W", "--dyn-syms", str(library)))


def _needed(library: Path) -> list[str]:
    return re.findall(r"NEEDED.*\[(.*?)\]", _run("readelf", "-d", str(library)))


def _linked_to_torch(site_packages: Path) -> Iterator[Path]:
    """Extension modules outside torch/lib that link to PyTorch (vLLM's own kernels)."""
    torch_lib = site_packages / "torch" / "lib"
    for library in site_packages.rglob("*.so*"):
        if torch_lib in library.parents or not library.is_file():
            continue
        if any(name.startswith(("libtorch", "libc10")) for name in _needed(library)):
            yield library


def provider_of(symbol: Symbol, missing: list[str], versions: dict[str, str]) -> str | None:
    """The missing library that an undefined symbol belongs to, or None when it is not NVIDIA's."""
    if symbol.version and versions.get(symbol.version) in missing:
        return versions[symbol.version]
    for prefix, library in PREFIXES.items():
        if symbol.name.startswith(prefix):
            return next((soname for soname in missing if soname.startswith(library)), None)
    return None


def plan_stubs(site_packages: Path) -> Stubs:
    """Which stub libraries are needed and what each must export; empty for a CPU build of PyTorch."""
    lib = site_packages / "torch" / "lib"
    kept = [lib / name for name in KEPT if (lib / name).exists()]
    in_cuda = {
        symbol.name: symbol
        for name in (CUDA_LIBRARY, *DROPPED)
        if (lib / name).exists()
        for symbol in _symbols(lib / name)
        if symbol.defined
    }
    tables = {library: _symbols(library) for library in [*kept, *_linked_to_torch(site_packages)]}
    defined = {symbol.name for library in kept for symbol in tables[library] if symbol.defined}
    stubs: Stubs = {}
    for library, symbols in tables.items():
        missing = [
            name for name in _needed(library) if ACCELERATOR_SONAME.match(name) and name != "libcuda.so.1"
        ]
        versions = parse_version_providers(_run("readelf", "-W", "-V", str(library)))
        for soname in missing:
            stubs.setdefault(soname, {})
        for symbol in symbols:
            if symbol.defined or symbol.name in defined:
                continue
            if real := in_cuda.get(symbol.name):
                stubs.setdefault(CUDA_LIBRARY, {})[symbol.name] = real
            elif provider := provider_of(symbol, missing, versions):
                function = Symbol(symbol.name, symbol.version, "FUNC", False, 0)
                stubs.setdefault(provider, {})[symbol.name] = function
    return stubs


def _function(symbol: Symbol, soname: str) -> list[str]:
    """Assembly of one stub function."""
    name = symbol.name
    is_cudart = soname.startswith("libcudart")
    head = [".text", f".globl {name}", f".type {name},@function", f"{name}:"]
    if is_cudart and name in ("cudaGetErrorString", "cudaGetErrorName"):
        return [*head, "lea no_device(%rip),%rax", "ret"]
    if (is_cudart and name in ("cudaGetLastError", "cudaPeekAtLastError")) or re.search(
        r"is_\w*available", name
    ):
        return [*head, "xor %eax,%eax", "ret"]
    if name == OPTIONS_CONSTRUCTOR:
        return [*head, "lea options_vtable+16(%rip),%rax", "mov %rax,(%rdi)", "ret"]
    if name == RETURNS_REFERENCE:
        return [*head, "lea cell(%rip),%rax", "ret"]
    if soname.startswith(ANSWERS_ERROR):
        return [*head, f"mov ${CUDA_ERROR_NO_DEVICE if is_cudart else GENERIC_ERROR},%eax", "ret"]
    return [
        *head,
        f"lea .Lname_{name}(%rip),%rdi",
        "jmp stub_trap",
        ".section .rodata",
        f'.Lname_{name}: .asciz "{name}"',
    ]


def _object(symbol: Symbol) -> list[str]:
    """Assembly of one stub variable: type information for C++ types, zeroes otherwise."""
    name = symbol.name
    if symbol.kind == "TLS":
        section, kind, size = '.section .tbss,"awT",@nobits', "tls_object", max(symbol.size, 8)
        value = [f"{name}: .zero {size}"]
    elif name.startswith("_ZTI"):  # pybind11 hashes type names while modules load
        section, kind, size = ".data", "object", max(symbol.size, 24)
        value = [
            f"{name}: .quad {CLASS_TYPE_INFO}, .Ltype_{name}, 0",
            ".section .rodata",
            f'.Ltype_{name}: .asciz "{name[4:]}"',
        ]
    else:
        section, kind, size = ".data", "object", max(symbol.size, 8)
        value = [f"{name}: .zero {size}"]
    declaration = [section, ".balign 32", f".globl {name}", f".type {name},@{kind}", f".size {name},{size}"]
    return [*declaration, *value]


def assembly(soname: str, symbols: dict[str, Symbol]) -> str:
    """The x86_64 assembly source of one stub library."""
    lines: list[str] = []
    for _, symbol in sorted(symbols.items()):
        lines += _function(symbol, soname) if symbol.kind == "FUNC" else _object(symbol)
    if OPTIONS_CONSTRUCTOR in symbols:
        lines += [
            ".text",
            "no_operation: ret",
            ".data",
            ".balign 32",
            "options_vtable: .quad 0, options_type" + ", no_operation" * 16,
            f"options_type: .quad {CLASS_TYPE_INFO}, options_name, 0",
            ".section .rodata",
            'options_name: .asciz "N4c10d16ProcessGroupNCCL7OptionsE"',
        ]
    lines += [".bss", ".balign 64", "cell: .zero 4096", ".section .rodata"]
    lines += [
        'no_device: .asciz "no CUDA device is detected (stub)"',
        '.section .note.GNU-stack,"",@progbits',
    ]
    return "\n".join(lines) + "\n"


def version_script(symbols: dict[str, Symbol]) -> str:
    """The linker's version script: every symbol under the version its users ask for."""
    versions: dict[str, list[str]] = {}
    for symbol in symbols.values():
        if symbol.version:
            versions.setdefault(symbol.version, []).append(symbol.name)
    return "".join(f"{version} {{ global: {'; '.join(names)}; }};\n" for version, names in versions.items())


def build_stub(target: Path, symbols: dict[str, Symbol]) -> None:
    """Assemble and link one stub library; `target.name` is its SONAME."""
    with tempfile.TemporaryDirectory() as folder:
        source, trap, script = Path(folder, "stub.S"), Path(folder, "trap.c"), Path(folder, "versions.map")
        source.write_text(assembly(target.name, symbols))
        trap.write_text(TRAP_SOURCE)
        options = [f"-Wl,-soname,{target.name}"]
        if text := version_script(symbols):
            script.write_text(text)
            options.append(f"-Wl,--version-script={script}")
        libraries = ["-lstdc++"] if target.name == CUDA_LIBRARY else []
        target.unlink(missing_ok=True)
        _run(
            "gcc", "-shared", "-fPIC", "-O2", "-o", str(target), *options, str(source), str(trap), *libraries
        )
    _run("strip", "--strip-unneeded", str(target))


def install_stubs(site_packages: Path) -> list[str]:
    """Replace the CUDA libraries PyTorch is linked to by stubs; returns their SONAMEs. Idempotent."""
    lib = site_packages / "torch" / "lib"
    if not (lib / CUDA_LIBRARY).exists() or (lib / CUDA_LIBRARY).stat().st_size < 16 << 20:
        return []  # a CPU build, or stubs already in place
    stubs = plan_stubs(site_packages)
    # The real CUDA library is replaced last: interrupted before that, the next run starts over.
    for soname in sorted(stubs, key=lambda name: name == CUDA_LIBRARY):
        build_stub(lib / soname, stubs[soname])
    for name in DROPPED:
        (lib / name).unlink(missing_ok=True)
    return sorted(stubs)
