"""Make the Python code of the protos, or check that the committed code is what they say.

python scripts/generate_protos.py            # writes it below protos/
python scripts/generate_protos.py --check    # writes nothing, fails when it is stale
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

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
VENDORED = ROOT / "third_party" / "protovalidate"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
# mypy-protobuf names every file that it writes, twice, unless told not to.
OPTIONS = {"mypy": "quiet:", "mypy_grpc": "quiet:"}


def generate(out: Path) -> None:
    """Write the code of all protos, ours and the vendored one, below the folder `out`."""
    sources = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    vendored = [str(path.relative_to(VENDORED)) for path in sorted(VENDORED.rglob("*.proto"))]
    services = [name for name in sources if "\nservice " in (PROTOS / name).read_text("utf-8")]
    # Messages first, then the services' stubs: files without services would get empty ones.
    protoc(out, ["python", "mypy"], sources + vendored)
    protoc(out, ["grpc_python", "mypy_grpc"], services)


def protoc(out: Path, plugins: list[str], sources: list[str]) -> None:
    """Run the protoc of grpcio-tools, with the plugins that are installed beside this Python."""
    include = Path(grpc_tools.__file__).parent / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc"]
    command += [f"-I{folder}" for folder in (PROTOS, VENDORED, include)]
    command += [f"--{plugin}_out={OPTIONS.get(plugin, '')}{out}" for plugin in plugins]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run([*command, *sources], check=True, env={**os.environ, "PATH": path})


def generated(root: Path) -> set[Path]:
    """Return the generated files below a folder, relative to it."""
    return {path.relative_to(root) for pattern in GENERATED for path in root.rglob(pattern)}


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
        new, old = generated(out), generated(PROTOS)
        _, differing, missing = filecmp.cmpfiles(
            out, PROTOS, [str(path) for path in new], shallow=False
        )
        stale = sorted({*differing, *missing, *(str(path) for path in old - new)})
        if check and stale:
            raise SystemExit(f"stale, run `make protos`: {', '.join(stale)}")
        if check:
            return
        for path in old - new:
            (PROTOS / path).unlink()
        for path in new:
            (PROTOS / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out / path, PROTOS / path)


if __name__ == "__main__":
    main()
