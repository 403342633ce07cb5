"""Writes the pages of docs/ that come from the code: `generate.py BINARY`. With `--check` it writes nothing, and fails if
a page is out of date.

It also fails if a test that docs/security.md names as a proof does not exist.
"""

import argparse
import pathlib
import re
import subprocess
import sys

PAGES = pathlib.Path(__file__).parent
TOP = PAGES.parent
LANGUAGES = {
    "rust": "Rust",
    "c": "C",
    "cpp": "C++",
    "zig": "Zig",
    "go": "Go",
    "python": "Python",
    "javascript": "JavaScript",
    "typescript": "TypeScript",
    "assemblyscript": "AssemblyScript",
    "micropython": "MicroPython",
    "python-script": "Python scripts",
    "javascript-script": "JavaScript scripts",
    "ruby-script": "Ruby scripts",
    "lua-script": "Lua scripts",
    "perl-script": "Perl scripts",
}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def generated(source, text):
    """A page with a first line that says where to edit it."""
    return f"<!-- Written by `make reference` from {source}. Edit that. -->\n\n{text.strip()}\n"


def subcommands(help_text):
    """The names below `Commands:`."""
    section = re.search(r"^Commands:\n((?:  .*\n|\n)*)", help_text, re.MULTILINE)
    names = re.findall(r"^  ([a-z][a-z-]*)", section.group(1), re.MULTILINE) if section else []
    return [name for name in names if name != "help"]


def commands(binary):
    """Every command with its `--help`, subcommands after their command."""
    page = ["# Commands\n\nThe `--help` of every command.\n"]

    def describe(path):
        text = output(binary, *path, "--help")
        title = " ".join(["distillery", *path])
        page.append(f"\n{'#' * min(2 + max(len(path) - 1, 0), 4)} `{title}`\n\n```text\n{text.rstrip()}\n```\n")
        for name in subcommands(text):
            describe([*path, name])

    describe([])
    return "".join(page)


def languages():
    """The README of each template, as in the directory that `distillery new` writes."""
    for directory, title in LANGUAGES.items():
        source = f"host/cli/templates/{directory}/README.md"
        text = (TOP / source).read_text()
        text = text.replace("# {{name}}", f"# {title}", 1).replace("{{name}}", "hello")
        yield f"languages/{directory}.md", generated(source, text)
    listed = {path.parent.name for path in (TOP / "host/cli/templates").glob("*/README.md")}
    assert listed == set(LANGUAGES), f"languages without a title in docs/generate.py: {listed ^ set(LANGUAGES)}"


def pages(binary):
    """Every generated page: its name and its text."""
    yield "reference/configuration.md", generated("distillery.yaml", output(binary, "config", "--markdown"))
    yield "reference/commands.md", generated("host/cli/src/lib.rs and its commands", commands(binary))
    yield from languages()


def tests():
    """The names of all functions in files with tests."""
    names = set()
    for folder in ("host", "tests/fuzz", "tests/tests"):
        for file in (TOP / folder).rglob("*.rs"):
            names.update(re.findall(r"\bfn ([a-z0-9_]+)", file.read_text()))
    return names


def check_proofs():
    """Fails unless every test that docs/security.md names exists."""
    named = re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`", (PAGES / "security.md").read_text())
    missing = sorted(set(named) - tests())
    assert not missing, f"docs/security.md names tests that do not exist: {', '.join(missing)}"
    assert named, "docs/security.md names no test"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary")
    arguments.add_argument("--check", action="store_true")
    arguments = arguments.parse_args()
    check_proofs()
    outdated = []
    for name, text in pages(arguments.binary):
        file = PAGES / name
        if not file.exists() or file.read_text() != text:
            outdated.append(name)
            if not arguments.check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
    if arguments.check and outdated:
        sys.exit(f"out of date: {', '.join(outdated)}: run `make reference`, and commit what it writes")


if __name__ == "__main__":
    main()
