#!/usr/bin/env python3
"""Writes the types of the JSON API for both libraries, from the openapi.json of the server.

    generate.py [--check] PROGRAM

PROGRAM is the server (`target/debug/distillery-under-test`), which prints the document. With --check nothing is
written, and a file that would change is an error.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent
TYPESCRIPT = HERE / "typescript/src/api-types.ts"
PYTHON = HERE / "python/src/distillery_client/_api_types.py"
# Messages of the JSON API that the libraries turn into errors, or that only other routes have.
LEFT_OUT = {"Error", "PluginChange"}
SCALARS = {
    "string": ("string", "str"),
    "integer": ("number", "int"),
    "number": ("number", "float"),
    "boolean": ("boolean", "bool"),
    "null": ("null", "None"),
}
TYPESCRIPT_ANY, PYTHON_ANY = "unknown", "Any"
WIDTH = 120


class Language:
    """Writes a schema as a type of TypeScript (0) or Python (1)."""

    def __init__(self, index, schemas):
        self.index = index
        self.schemas = schemas

    def type(self, schema):
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            target = self.schemas[name]
            return name if target.get("type") == "object" else self.type(target)
        # Alternatives that only differ in a pattern or a format are one type.
        for key in ("anyOf", "oneOf"):
            if key in schema and "type" not in schema:
                return self.union([self.type(option) for option in schema[key]])
        if "enum" in schema:
            return self.choices(schema["enum"])
        kinds = schema.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return self.union([self.kind(kind, schema) for kind in kinds]) if kinds else self.any()

    def any(self):
        return (TYPESCRIPT_ANY, PYTHON_ANY)[self.index]

    def union(self, types):
        # `null` comes last, and nothing twice.
        types = sorted(dict.fromkeys(types), key=lambda it: it in ("null", "None"))
        return " | ".join(types)

    def choices(self, values):
        if self.index == 0:
            return " | ".join(json.dumps(value) for value in values)
        return f"Literal[{', '.join(json.dumps(value) for value in values)}]"

    def kind(self, kind, schema):
        if kind == "array":
            item = self.type(schema["items"])
            if self.index == 1:
                return f"list[{item}]"
            return f"({item})[]" if "|" in item else f"{item}[]"
        if kind == "object":
            return ("Record<string, unknown>", "dict[str, Any]")[self.index]
        return SCALARS[kind][self.index]


def comment(text, before, after=""):
    """Returns the lines of a comment. `before` and `after` are what a comment has in its language."""
    text = " ".join(text.replace("`None`", "Null").split())
    if len(before) + len(text) + len(after) <= WIDTH:
        return [f"{before}{text}{after}"]
    if not after:
        return [f"{before}{line}" for line in textwrap.wrap(text, WIDTH - len(before))]
    indent = before[: -len("/** ")]
    lines = textwrap.wrap(text, WIDTH - len(indent) - len(" * "))
    return [f"{indent}/**", *(f"{indent} * {line}" for line in lines), f"{indent} */"]


def field(name, kind):
    """Returns the lines of a field, as the formatter of JavaScript wants them."""
    if len(f"{name} {kind};") <= WIDTH:
        return [f"{name} {kind};"]
    variants = kind.split(" | ")
    return [name, *(f"    | {variant}" for variant in variants[:-1]), f"    | {variants[-1]};"]


def typescript(objects, schemas):
    language = Language(0, schemas)
    lines = ["// Types of the JSON API. Written by clients/generate.py from openapi.json.", ""]
    for name, schema in objects.items():
        if "description" in schema:
            lines += comment(schema["description"], "/** ", " */")
        lines.append(f"export interface {name} {{")
        for key, value in schema["properties"].items():
            if "description" in value:
                lines += comment(value["description"], "  /** ", " */")
            optional = "" if key in schema.get("required", []) else "?"
            lines += field(f"  {key}{optional}:", language.type(value))
        lines += ["}", ""]
    return "\n".join(lines[:-1]) + "\n"


def python(objects, schemas):
    language = Language(1, schemas)
    lines = [
        '"""Types of the JSON API. Written by clients/generate.py from openapi.json."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Any, Literal, NotRequired, TypedDict",
        "",
    ]
    for name, schema in objects.items():
        lines += ["", f"class {name}(TypedDict):"]
        if "description" in schema:
            lines += [*comment(schema["description"], '    """', '"""'), ""]
        for key, value in schema["properties"].items():
            if "description" in value:
                lines += comment(value["description"], "    # ")
            kind = language.type(value)
            lines.append(f"    {key}: {kind if key in schema.get('required', []) else f'NotRequired[{kind}]'}")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def main():
    arguments = sys.argv[1:]
    check = "--check" in arguments
    programs = [argument for argument in arguments if argument != "--check"]
    if len(programs) != 1:
        sys.exit(__doc__)
    printed = subprocess.run([programs[0], "openapi"], capture_output=True, check=True).stdout
    schemas = json.loads(printed)["components"]["schemas"]
    for name in LEFT_OUT:
        del schemas[name]
    objects = {name: schema for name, schema in schemas.items() if schema.get("type") == "object"}
    stale = []
    for path, text in ((TYPESCRIPT, typescript(objects, schemas)), (PYTHON, python(objects, schemas))):
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(HERE))
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"not as openapi.json says: {', '.join(map(str, stale))}: run `make reference`")


if __name__ == "__main__":
    main()
