"""Runs while the image is built: lays out one layer of it, with what runs, compiled, and nothing that never does.

    python slim.py --layer LAYER --imports MODULE... -- PATH...

Each PATH is trimmed and compiled where it is, and copied to the same place below LAYER. The base image comes without
byte code, and the container's user can't write any: so the files of the standard library that importing each MODULE
loads are compiled into LAYER as well. That halves the time until the first statement. In the end every mode and time
below LAYER is the same on every machine, so that equal sources make equal layers.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import os
import py_compile
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

# Read by type checkers and compilers only, a library's own tests, and what talks to other databases.
NEVER_RUN = (
    *("**/*.pyi", "**/*.pxd", "**/*.c", "**/site-packages/*/testing"),
    *(f"**/sqlalchemy/dialects/{name}" for name in ("mssql", "mysql", "oracle", "sqlite")),
)

# The source is never newer than its byte code: Python need not compare.
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
        importlib.import_module(found.name)
"""


def trim(path: Path) -> None:
    """Remove what never runs, and cut the debugging information off shared libraries."""
    for pattern in NEVER_RUN:
        for found in path.glob(pattern):
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()
    for library in path.rglob("*.so*"):
        if not library.is_symlink():
            strip(library)


def strip(library: Path) -> None:
    """Cut off what follows the last segment: sections, symbols and debugging information, which no loader reads."""
    data = bytearray(library.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        return
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, entries = struct.unpack_from("<HH", data, 54)
    segments = (struct.unpack_from("<8xQ16xQ", data, table + number * entry_size) for number in range(entries))
    end = max(offset + size for offset, size in segments)
    struct.pack_into("<Q", data, 40, 0)  # e_shoff
    struct.pack_into("<HH", data, 60, 0, 0)  # e_shnum, e_shstrndx
    library.write_bytes(data[:end])


def compile_library(modules: list[str], layer: Path) -> None:
    """Compile the files of the standard library that `modules` load and that have no byte code yet, into `layer`."""
    library = Path(sysconfig.get_path("stdlib"))
    with tempfile.TemporaryDirectory() as written:
        # Where all byte code is to be in a folder of its own, Python writes there what it had to compile.
        python = [sys.executable, "-X", f"pycache_prefix={written}", "-c", IMPORT_ALL]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run([*python, *modules], env=environment, check=True)  # noqa: S603 - runs in the build only
        folder = Path(written) / library.relative_to("/")
        loaded = sorted(file.relative_to(folder) for file in folder.rglob("*.pyc"))
    for file in loaded:
        source = library / file.with_name(f"{file.name.split('.', 1)[0]}.py")
        compiled = Path(importlib.util.cache_from_source(str(source)))
        if not compiled.exists():
            py_compile.compile(str(source), doraise=True, invalidation_mode=UNCHECKED)
            copy = layer / compiled.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(compiled, copy)


def level(layer: Path) -> None:
    """Give everything in `layer` the same modes and times wherever it was built."""
    for path in [layer, *layer.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (0, 0), follow_symlinks=False)


def main() -> None:
    """Lay out one layer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layer", type=Path, required=True)
    parser.add_argument("--imports", nargs="*", default=[])
    parser.add_argument("paths", nargs="+", type=Path)
    options = parser.parse_args()
    layer: Path = options.layer
    layer.mkdir()
    for path in options.paths:
        if path.is_dir():
            trim(path)
            if not compileall.compile_dir(path, maxlevels=99, quiet=1, invalidation_mode=UNCHECKED):
                sys.exit(f"{path}: a file can't be compiled")
        copy = layer / path.relative_to("/")
        if path.is_dir():
            shutil.copytree(path, copy, symlinks=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    compile_library(options.imports, layer)
    level(layer)


main()
