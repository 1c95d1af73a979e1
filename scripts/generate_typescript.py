"""Make the TypeScript code of the protos, or check that the committed code is what they say.

python scripts/generate_typescript.py            # writes clients/typescript/src/gen
python scripts/generate_typescript.py --check    # writes nothing, fails when it is stale

It is protobuf-es' code, for which `make` installs the generator. The rules of `buf.validate` are
left out of the descriptors in it: the server checks by them, and a page would load them for
nothing. Beside the protos it holds the details that errors carry (`google.rpc`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "clients" / "typescript" / "src" / "gen"
GENERATOR = ROOT / "clients" / "node_modules" / "@bufbuild" / "protoc-gen-es" / "bin"
RULES = "buf/validate/validate.proto"
# With what they are made of.
DETAILS = ("BadRequest", "ErrorInfo", "LocalizedMessage", "QuotaFailure", "RetryInfo")
# Node runs the code as it stands: imports name files, and enums are objects.
OPTIONS = "target=ts,import_extension=ts,erasable_syntax=true"


def generate() -> dict[Path, str]:
    """Return the code by its file below `src/gen`.

    Raises:
        RuntimeError: the generator refuses the protos.
    """
    files = [*described_files(), details()]
    request = CodeGeneratorRequest(
        file_to_generate=[
            file.name for file in files if not file.name.startswith("google/protobuf")
        ],
        parameter=OPTIONS,
        proto_file=files,
    )
    node = Path(sys.executable).parent / "node"
    answered = subprocess.run(
        [node, GENERATOR / "protoc-gen-es"],
        input=request.SerializeToString(),
        stdout=subprocess.PIPE,
        check=True,
    )
    response = CodeGeneratorResponse.FromString(answered.stdout)
    if response.error:
        raise RuntimeError(response.error)
    return {Path(file.name): file.content for file in response.file}


def described_files() -> list[FileDescriptorProto]:
    """Return the protos' descriptors with comments and without rules."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "protos.binpb"
        buf = Path(sys.executable).parent / "buf"
        subprocess.run([buf, "build", "protos", "--output", image], check=True, cwd=ROOT)
        described = FileDescriptorSet.FromString(image.read_bytes()).file
    files = [file for file in described if file.name != RULES]
    for file in files:
        kept = [name for name in file.dependency if name != RULES]
        file.dependency[:] = kept
        del file.public_dependency[:], file.weak_dependency[:]
        # Rules are options that this process does not know.
        file.DiscardUnknownFields()
    return files


def details() -> FileDescriptorProto:
    """Return the descriptor of those of google.rpc's details that errors carry."""
    file = FileDescriptorProto()
    error_details_pb2.DESCRIPTOR.CopyToProto(file)
    kept = [message for message in file.message_type if message.name in DETAILS]
    del file.message_type[:]
    file.message_type.extend(kept)
    return file


def main() -> None:
    """Generate, or compare.

    Raises:
        SystemExit: with --check, when the committed code is not what the protos give.
    """
    parser = argparse.ArgumentParser(description="Make or check the protos' TypeScript code.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    new = generate()
    old = {path.relative_to(OUT): path.read_text("utf-8") for path in OUT.rglob("*.ts")}
    stale = sorted(str(path) for path in new.keys() | old.keys() if new.get(path) != old.get(path))
    if check and stale:
        raise SystemExit(f"stale, run `make protos`: {', '.join(stale)}")
    if check:
        return
    for path in old.keys() - new.keys():
        (OUT / path).unlink()
    for path, content in new.items():
        (OUT / path).parent.mkdir(parents=True, exist_ok=True)
        (OUT / path).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
