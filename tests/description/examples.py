"""Reads an OpenAPI or AsyncAPI document from stdin, and reports the first example that does not match its schema."""

import json
import sys

from jsonschema import Draft202012Validator

document = json.load(sys.stdin)
checked = 0


def check(where, schema, example):
    global checked
    checked += 1
    whole = {"allOf": [schema], "components": document["components"]}
    for error in Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).iter_errors(example):
        sys.exit(f"{where}: {error.json_path}: {error.message}")


def visit(node, where):
    if isinstance(node, list):
        for place, item in enumerate(node):
            visit(item, f"{where}.{place}")
    if not isinstance(node, dict):
        return
    if "schema" in node and "example" in node:
        check(where, node["schema"], node["example"])
    if "payload" in node and "examples" in node:
        for example in node["examples"]:
            check(where, node["payload"], example["payload"])
    for name, item in node.items():
        if name not in ("example", "examples"):
            visit(item, f"{where}.{name}")


visit(document, "$")
print(f"{checked} examples")
if checked == 0:
    sys.exit("there are no examples")
