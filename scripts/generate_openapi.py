"""Make the OpenAPI description of the API over HTTP, or check that the committed one is what the
protos say.

python -m scripts.generate_openapi            # writes server/colloquy_server/web/openapi.json
python -m scripts.generate_openapi --check    # writes nothing, fails when it is stale

Each RPC is a POST, as the Connect protocol has it; messages are as protobuf's JSON has them. What
the protos' comments say becomes the descriptions.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from scripts.generate_protos import ROOT, described_files

TARGET = ROOT / "server" / "colloquy_server" / "web" / "openapi.json"

Schema = dict[str, Any]

Field = FieldDescriptorProto

# What protobuf's JSON makes of each type; integers of 64 bits are strings.
SCALARS: dict[int, Schema] = {
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    Field.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    Field.TYPE_INT64: {"type": "string", "format": "int64"},
    Field.TYPE_UINT64: {"type": "string", "format": "int64"},
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_FLOAT: {"type": "number", "format": "float"},
}

WELL_KNOWN: dict[str, Schema] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string"},
    ".google.protobuf.FieldMask": {"type": "string"},
}

ERROR: Schema = {
    "description": "Why a call was refused, or failed.",
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "string", "description": "The status, like `invalid_argument`."},
        "message": {"type": "string", "description": "What happened, for people."},
        "details": {
            "type": "array",
            "description": "Messages of google.rpc: ErrorInfo, whose `reason` is one of"
            " ErrorReason without its prefix, and BadRequest, RetryInfo and QuotaFailure where"
            " they apply.",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "description": "Like `google.rpc.ErrorInfo`."},
                    "value": {
                        "type": "string",
                        "contentEncoding": "base64",
                        "description": "The message as bytes of protobuf.",
                    },
                },
            },
        },
    },
}

STREAM = (
    "A stream of messages, each after a byte of flags and four bytes (big endian) of its length."
    " Flag 2 marks the last, which is the stream's end: `{}`, or `error` with why it broke."
)

STREAM_REQUEST = "The same: a byte 0, four bytes of the length, and the message."


@dataclass(frozen=True)
class Described:
    """A file's descriptor, and its comments by the path of what they are about."""

    file: FileDescriptorProto
    comments: dict[tuple[int, ...], str]

    def about(self, path: Sequence[int]) -> str:
        """Return what is said of a thing."""
        return self.comments.get(tuple(path), "")


def described(file: FileDescriptorProto) -> Described:
    """Return a file with its comments, their lines joined to paragraphs."""
    comments = {}
    for location in file.source_code_info.location:
        paragraphs = re.split(r"\n\s*\n", location.leading_comments.strip())
        text = "\n\n".join(" ".join(part.split()) for part in paragraphs)
        if text:
            comments[tuple(location.path)] = text
    return Described(file, comments)


def openapi(files: list[FileDescriptorProto]) -> Schema:
    """Return the description of all services."""
    own = [described(file) for file in files if file.package == "conversation.v1"]
    schemas: Schema = {"ConnectError": ERROR}
    paths: Schema = {}
    tags = []
    for each in own:
        schemas |= dict(schemas_of(each))
        for at, service in enumerate(each.file.service):
            tags.append({"name": service.name, "description": each.about([6, at])})
            for number, method in enumerate(service.method):
                path = f"/{each.file.package}.{service.name}/{method.name}"
                text = each.about([6, at, 2, number])
                paths[path] = {"post": operation(service.name, method, text)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Colloquy",
            "version": "v1",
            "description": "The API conversation.v1 over HTTP, by the Connect protocol.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": tags,
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key or a token."}
            },
            "schemas": dict(sorted(schemas.items())),
        },
    }


def operation(service: str, method: MethodDescriptorProto, text: str) -> Schema:
    """Return an RPC as an operation."""
    request, response = reference(method.input_type), reference(method.output_type)
    answer: Schema = {"application/json": {"schema": response}}
    body: Schema = {"application/json": {"schema": request}}
    if method.client_streaming or method.server_streaming:
        kind = "application/connect+json"
        one = "messages" if method.server_streaming else "one message"
        answer = {kind: {"schema": stream(response, f"{STREAM} Here: {one} of this schema.")}}
        body = {kind: {"schema": stream(request, STREAM_REQUEST)}}
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/ConnectError"}}}
    return {
        "operationId": f"{service}_{method.name}",
        "tags": [service],
        "summary": method.name,
        "description": text,
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            "default": {"description": "What was refused, or failed.", "content": failed},
        },
    }


def stream(message: Schema, text: str) -> Schema:
    """Return the schema of a stream, of which OpenAPI knows only that it is bytes."""
    return {"type": "string", "format": "binary", "description": text, "x-message": message}


def reference(name: str) -> Schema:
    """Return the reference to a message or an enum."""
    return {"$ref": f"#/components/schemas/{name.rpartition('conversation.v1.')[2]}"}


def schemas_of(of: Described) -> Iterator[tuple[str, Schema]]:
    """Yield the schemas of a file's messages and enums, by their names."""
    for at, message in enumerate(of.file.message_type):
        yield from message_schemas(of, message, message.name, [4, at])
    for at, enum in enumerate(of.file.enum_type):
        yield enum.name, enum_schema(of, enum, [5, at])


def message_schemas(
    of: Described, message: DescriptorProto, name: str, path: list[int]
) -> Iterator[tuple[str, Schema]]:
    """Yield the schema of a message, and of those inside it."""
    maps = {}
    for at, inner in enumerate(message.nested_type):
        if inner.options.map_entry:
            maps[inner.name] = inner
        else:
            yield from message_schemas(of, inner, f"{name}.{inner.name}", [*path, 3, at])
    for at, enum in enumerate(message.enum_type):
        yield f"{name}.{enum.name}", enum_schema(of, enum, [*path, 4, at])
    properties = {
        field.json_name: with_text(field_schema(field, maps), of.about([*path, 2, at]))
        for at, field in enumerate(message.field)
    }
    schema: Schema = {"type": "object", "properties": properties}
    notes = [of.about(path)]
    for at, _oneof in enumerate(message.oneof_decl):
        members = [
            field.json_name
            for field in message.field
            if field.HasField("oneof_index")
            and field.oneof_index == at
            and not field.proto3_optional
        ]
        if members:
            listed = ", ".join(f"`{member}`" for member in members)
            notes.append(f"At most one of {listed} is there. {of.about([*path, 8, at])}".strip())
    yield name, with_text(schema, "\n\n".join(note for note in notes if note))


def field_schema(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> Schema:
    """Return the schema of a field."""
    entry = maps.get(field.type_name.rpartition(".")[2])
    if field.type == Field.TYPE_MESSAGE and entry is not None:
        return {"type": "object", "additionalProperties": value_schema(entry.field[1])}
    value = value_schema(field)
    if field.label == Field.LABEL_REPEATED:
        return {"type": "array", "items": value}
    return value


def value_schema(field: FieldDescriptorProto) -> Schema:
    """Return the schema of one value of a field."""
    if field.type in (Field.TYPE_MESSAGE, Field.TYPE_ENUM):
        return dict(WELL_KNOWN.get(field.type_name) or reference(field.type_name))
    return dict(SCALARS[field.type])


def enum_schema(of: Described, enum: EnumDescriptorProto, path: list[int]) -> Schema:
    """Return the schema of an enum, whose values JSON has by name."""
    lines = [of.about(path)]
    for at, value in enumerate(enum.value):
        if text := of.about([*path, 2, at]):
            lines.append(f"`{value.name}`: {text}")
    schema: Schema = {"type": "string", "enum": [value.name for value in enum.value]}
    return with_text(schema, "\n\n".join(line for line in lines if line))


def with_text(schema: Schema, text: str) -> Schema:
    """Return a schema with a description, if there is one."""
    return {**schema, "description": text} if text else schema


def main() -> None:
    """Generate, or compare.

    Raises:
        SystemExit: with --check, when the committed description is not what the protos give.
    """
    parser = argparse.ArgumentParser(description="Make or check the OpenAPI description.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        files = described_files(Path(folder) / "protos.binpb")
    text = json.dumps(openapi(files), indent=1, ensure_ascii=False) + "\n"
    if check and (not TARGET.exists() or TARGET.read_text("utf-8") != text):
        raise SystemExit(f"stale, run `make protos`: {TARGET.relative_to(ROOT)}")
    if not check:
        TARGET.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
