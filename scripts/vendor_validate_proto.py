"""Render the buf/validate/validate.proto that the installed protovalidate wheel was built from.

The wheel carries the file's descriptor, not its text. This writes the text (without comments, which
a descriptor does not hold) and proves it right: compiled again it gives the same descriptor.

    python scripts/vendor_validate_proto.py                 # rewrites the vendored file
    python scripts/vendor_validate_proto.py --check         # only says whether it still matches
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    message_factory,
    timestamp_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.message import Message

NAME = "buf/validate/validate.proto"
MODULE = Path(__file__).parent.parent / "third_party" / "protovalidate"
TARGET = MODULE / NAME
DEPENDENCIES = (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2)
# A message's last field number, 2^29 - 1: in a range it is written `max`.
MAX_FIELD_NUMBER = 536_870_911
# The same for the values of an enum.
MAX_ENUM_VALUE = 2_147_483_647

_LABELS = {
    FieldDescriptorProto.LABEL_OPTIONAL: "optional ",
    FieldDescriptorProto.LABEL_REQUIRED: "required ",
    FieldDescriptorProto.LABEL_REPEATED: "repeated ",
}


def read_wheel() -> tuple[FileDescriptorProto, str]:
    """Return the descriptor and the licence header (`#` comments) of the wheel's generated module.

    The module is read, not imported: its descriptor is the first argument of `file_desc`.
    """
    spec = importlib.util.find_spec("protovalidate._gen.buf.validate.validate_pb")
    if spec is None or spec.origin is None:
        raise SystemExit("protovalidate is not installed: run `make setup`")
    source = Path(spec.origin).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "file_desc":
            raw = ast.literal_eval(node.args[0])
            header = source.split("\n\n", 1)[0]
            return FileDescriptorProto.FromString(raw), header
    raise SystemExit("the protovalidate wheel no longer carries the descriptor where it did")


def with_known_options(file: FileDescriptorProto) -> Message:
    """Return the file as a message whose options include the extensions that it defines itself."""
    pool = descriptor_pool.DescriptorPool()
    for dependency in DEPENDENCIES:
        pool.AddSerializedFile(dependency.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("google.protobuf.FileDescriptorProto")
    parsed = message_factory.GetMessageClass(descriptor)()
    parsed.ParseFromString(file.SerializeToString())
    return parsed


def quote(text: str, indent: str) -> str:
    """Return a string literal; a text of several lines becomes one literal a line, which join."""
    parts = text.splitlines(keepends=True) or [""]
    table = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    literals = ['"' + "".join(table.get(c, c) for c in part) + '"' for part in parts]
    return literals[0] if len(literals) == 1 else "".join(f"\n{indent}  {lit}" for lit in literals)


def scalar(field: FieldDescriptor, value: Any, indent: str) -> str:
    """Return an option's value as it is written."""
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value, indent)
    return str(value)


def aggregate(message: Message, indent: str) -> str:
    """Return a message in the text format that options use."""
    inner = indent + "  "
    lines = []
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if field.message_type is not None:
                lines.append(f"{inner}{field.name}: {aggregate(one, inner)}")
            else:
                lines.append(f"{inner}{field.name}: {scalar(field, one, inner)}")
    return "{\n" + "\n".join(lines) + f"\n{indent}}}"


def options(message: Message, indent: str) -> Iterator[str]:
    """Yield each option that is set, as `name = value`."""
    for field, value in message.ListFields():
        name = f"({field.full_name})" if field.is_extension else field.name
        if field.message_type is None:
            for one in value if field.is_repeated else [value]:
                yield f"{name} = {scalar(field, one, indent)}"
            continue
        # One statement for each part: an extension that holds a list is said as often as it is long
        for part, content in value.ListFields():
            for one in content if part.is_repeated else [content]:
                text = aggregate(one, indent) if part.message_type else scalar(part, one, indent)
                yield f"{name}.{part.name} = {text}"


def ranges(items: Sequence[tuple[int, int]], names: Sequence[str], last: int) -> Iterator[str]:
    """Yield the `reserved` statements for inclusive ranges of numbers, and for names."""
    if items:
        written = (str(a) if a == b else f"{a} to {'max' if b == last else b}" for a, b in items)
        yield f"reserved {', '.join(written)};"
    if names:
        yield "reserved " + ", ".join(f'"{name}"' for name in names) + ";"


def field_text(field: FieldDescriptorProto, indent: str, *, label: bool) -> str:
    """Return a field's statement. Inside a oneof fields have no label."""
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type)[len("TYPE_") :].lower()
    kind = kind.removeprefix(".buf.validate.").removeprefix(".")
    brackets = []
    if field.HasField("default_value"):
        brackets.append(f"default = {field.default_value}")
    if field.HasField("options"):
        brackets.extend(options(field.options, indent + "  "))
    text = f"{indent}{_LABELS[field.label] if label else ''}{kind} {field.name} = {field.number}"
    if brackets:
        text += " [\n" + ",\n".join(f"{indent}  {b}" for b in brackets) + f"\n{indent}]"
    return text + ";"


def enum_text(enum: EnumDescriptorProto, indent: str) -> Iterator[str]:
    """Yield the lines of an enum."""
    yield f"{indent}enum {enum.name} {{"
    inner = indent + "  "
    yield from (f"{inner}option {o};" for o in options(enum.options, inner))
    reserved = [(r.start, r.end) for r in enum.reserved_range]
    for line in ranges(reserved, enum.reserved_name, MAX_ENUM_VALUE):
        yield inner + line
    for value in enum.value:
        brackets = ", ".join(options(value.options, inner))
        yield f"{inner}{value.name} = {value.number}{f' [{brackets}]' if brackets else ''};"
    yield indent + "}"


def message_text(message: DescriptorProto, indent: str) -> Iterator[str]:
    """Yield the lines of a message."""
    yield f"{indent}message {message.name} {{"
    inner = indent + "  "
    yield from (f"{inner}option {o};" for o in options(message.options, inner))
    reserved = [(r.start, r.end - 1) for r in message.reserved_range]
    for line in ranges(reserved, message.reserved_name, MAX_FIELD_NUMBER):
        yield inner + line
    for extension_range in message.extension_range:
        last = extension_range.end - 1
        end = "max" if last == MAX_FIELD_NUMBER else last
        yield f"{inner}extensions {extension_range.start} to {end};"
    for enum in message.enum_type:
        yield from enum_text(enum, inner)
    for nested in message.nested_type:
        yield from message_text(nested, inner)
    opened: set[int] = set()
    for field in message.field:
        if not field.HasField("oneof_index"):
            yield field_text(field, inner, label=True)
        elif field.oneof_index not in opened:
            opened.add(field.oneof_index)
            oneof = message.oneof_decl[field.oneof_index]
            yield f"{inner}oneof {oneof.name} {{"
            yield from (f"{inner}  option {o};" for o in options(oneof.options, inner + "  "))
            for member in message.field:
                if member.HasField("oneof_index") and member.oneof_index == field.oneof_index:
                    yield field_text(member, inner + "  ", label=False)
            yield inner + "}"
    yield indent + "}"


def render(file: FileDescriptorProto, header: str) -> str:
    """Return the .proto source of a proto2 file.

    Raises:
        SystemExit: the file is no longer proto2; the rendering has to learn its syntax first.
    """
    if file.syntax not in ("", "proto2"):
        raise SystemExit(f"{file.name} is written in {file.syntax}, this tool knows proto2")
    known: FileDescriptorProto = with_known_options(file)  # type: ignore[assignment]
    version = importlib.metadata.version("protovalidate")
    lines = [line.replace("#", "//", 1) for line in header.splitlines()]
    lines += [
        "",
        f"// From the descriptor in the protovalidate {version} wheel, without its comments,",
        "// by scripts/vendor_validate_proto.py. Do not edit.",
        "",
        'syntax = "proto2";',
        "",
        f"package {file.package};",
        "",
    ]
    lines += [f'import "{dependency}";' for dependency in file.dependency]
    lines += ["", *(f"option {o};" for o in options(known.options, "")), ""]
    for extension in known.extension:
        lines.append(f"extend {extension.extendee.removeprefix('.')} {{")
        lines += [field_text(extension, "  ", label=True), "}", ""]
    for enum in known.enum_type:
        lines += [*enum_text(enum, ""), ""]
    for message in known.message_type:
        lines += [*message_text(message, ""), ""]
    return "\n".join(lines)


def compiled(root: Path) -> FileDescriptorProto:
    """Compile the file under `root` and return its descriptor."""
    import grpc_tools

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        include = Path(grpc_tools.__file__).parent / "_proto"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"-I{include}"]
        subprocess.run([*command, f"--descriptor_set_out={out}", NAME], check=True)
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return file


def same(one: FileDescriptorProto, other: FileDescriptorProto) -> bool:
    """Whether two descriptors say the same; names in JSON, which the compiler makes up, aside."""
    return normalised(one) == normalised(other)


def normalised(file: FileDescriptorProto) -> bytes:
    """Return the file, its options in order, without what the compiler fills in by itself."""
    plain = FileDescriptorProto.FromString(file.SerializeToString())
    plain.ClearField("source_code_info")
    fields = list(plain.extension)
    queue = list(plain.message_type)
    while queue:
        message = queue.pop()
        fields += [*message.field, *message.extension]
        queue += message.nested_type
    for field in fields:
        field.ClearField("json_name")
    if not plain.HasField("syntax"):
        plain.syntax = "proto2"
    return with_known_options(plain).SerializeToString(deterministic=True)


def main() -> None:
    """Write the vendored file, or check it, and fail unless it compiles to the wheel's file."""
    parser = argparse.ArgumentParser(description="Vendor buf/validate/validate.proto.")
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    file, header = read_wheel()
    if not arguments.check:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(render(file, header), encoding="utf-8")
        subprocess.run(["buf", "format", "-w", str(MODULE)], check=True)  # noqa: S607
    if not same(file, compiled(MODULE)):
        raise SystemExit(f"{TARGET} does not say what the protovalidate wheel does")
    print(f"{NAME} compiles to the descriptor of the protovalidate wheel")


if __name__ == "__main__":
    main()
