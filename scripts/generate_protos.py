"""Make the Python code of the protos, or check that the committed code is what they say.

python scripts/generate_protos.py            # writes colloquy.api
python scripts/generate_protos.py --check    # writes nothing, fails when it is stale

The code becomes the package `colloquy.api`, wherever the protos are. Their rules (`buf.validate`)
stay in the descriptors as bytes that Python need not understand: who validates by them reads them,
and who does not needs no `buf.validate`, of which a process can hold one version.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
VENDORED = ROOT / "third_party" / "protovalidate"
PYTHON = ROOT / "clients" / "python"
PACKAGE = Path("colloquy") / "api"
RULES = "buf/validate/validate.proto"
# mypy-protobuf names every file that it writes, twice, unless told not to.
OPTIONS = {"mypy": "quiet:", "mypy_grpc": "quiet:"}


def generate(out: Path) -> None:
    """Write the package `colloquy.api` below the folder `out`."""
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "protos.binpb"
        files = described_files(described)
        sources = [file.name for file in files if file.name.startswith(f"{PACKAGE.as_posix()}/")]
        services = [file.name for file in files if file.service]
        described.write_bytes(FileDescriptorSet(file=files).SerializeToString())
        given = [f"--descriptor_set_in={described}"]
        # Messages first, then the services' stubs: files without services would get empty ones.
        protoc([*given, *outputs(out, ["python", "mypy"]), *sources])
        protoc([*given, *outputs(out, ["grpc_python", "mypy_grpc"]), *services])
    (out / PACKAGE / "__init__.py").write_text(index([f for f in files if f.name in sources]))


def described_files(target: Path) -> list[FileDescriptorProto]:
    """Return the protos' descriptors with comments, ours named as their code will be."""
    include = Path(grpc_tools.__file__).parent / "_proto"
    sources = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    protoc(
        [
            *(f"-I{folder}" for folder in (PROTOS, VENDORED, include)),
            *("--include_imports", "--include_source_info"),
            f"--descriptor_set_out={target}",
            *sources,
        ]
    )
    files = [f for f in FileDescriptorSet.FromString(target.read_bytes()).file if f.name != RULES]
    own = {name: (PACKAGE / Path(name).name).as_posix() for name in sources}
    for file in files:
        file.name = own.get(file.name, file.name)
        needed = [own.get(name, name) for name in file.dependency if name != RULES]
        file.dependency[:] = needed
    return files


def outputs(out: Path, plugins: list[str]) -> list[str]:
    """Return protoc's options for the plugins that are installed beside this Python."""
    return [f"--{plugin}_out={OPTIONS.get(plugin, '')}{out}" for plugin in plugins]


def protoc(arguments: list[str]) -> None:
    """Run the protoc of grpcio-tools."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})


def index(files: list[FileDescriptorProto]) -> str:
    """Return the package's own module: all messages, enums and stubs by name, each imported when it
    is first used, because the stubs bring gRPC."""
    homes: dict[str, str] = {}
    for file in files:
        module = Path(file.name).stem + "_pb2"
        named = [message.name for message in file.message_type]
        for enum in file.enum_type:
            named += [enum.name, *(value.name for value in enum.value)]
        homes |= dict.fromkeys(named, module)
        homes |= {f"{service.name}Stub": f"{module}_grpc" for service in file.service}
    lines = [
        '"""The API `conversation.v1`: its messages, enums and stubs. Generated, do not edit.',
        "",
        "What each means is said in the protos, and in the stub files beside this one.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "import importlib",
        "from typing import TYPE_CHECKING, Any",
        "",
        "if TYPE_CHECKING:",
        *(f"    from colloquy.api.{homes[name]} import {name}" for name in sorted(homes)),
        "",
        "__all__ = [",
        *(f'    "{name}",' for name in sorted(homes)),
        "]",
        "",
        "_MODULES = {",
        *(f'    "{name}": "{homes[name]}",' for name in sorted(homes)),
        "}",
        "",
        "",
        "def __getattr__(name: str) -> Any:",
        "    if name not in _MODULES:",
        '        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")',
        '    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)',
        "",
    ]
    return "\n".join(lines)


def generated(root: Path) -> set[Path]:
    """Return the files of the package below a folder, relative to it."""
    files = (root / PACKAGE).glob("*.py*")
    return {path.relative_to(root) for path in files if path.suffix in (".py", ".pyi")}


def main() -> None:
    """Generate, or compare.

    Raises:
        SystemExit: with --check, when the committed code is not what the protos give.
    """
    parser = argparse.ArgumentParser(description="Make or check the protos' Python code.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        new, old = generated(out), generated(PYTHON)
        _, differing, missing = filecmp.cmpfiles(
            out, PYTHON, [str(path) for path in new], shallow=False
        )
        stale = sorted({*differing, *missing, *(str(path) for path in old - new)})
        if check and stale:
            raise SystemExit(f"stale, run `make protos`: {', '.join(stale)}")
        if check:
            return
        for path in old - new:
            (PYTHON / path).unlink()
        (PYTHON / PACKAGE).mkdir(exist_ok=True)
        for path in new:
            shutil.copyfile(out / path, PYTHON / path)


if __name__ == "__main__":
    main()
