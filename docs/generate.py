"""Writes the pages of the book that come from the code: `generate.py BINARY` writes generated/.

It also holds that each test that a page names as its proof is there.
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
TOP = HERE.parent
PAGES = HERE / "generated"
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
}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write(name, text):
    file = PAGES / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def subcommands(help_text):
    """The names below `Commands:`."""
    section = re.search(r"^Commands:\n((?:  .*\n|\n)*)", help_text, re.MULTILINE)
    names = re.findall(r"^  ([a-z][a-z-]*)", section.group(1), re.MULTILINE) if section else []
    return [name for name in names if name != "help"]


def commands(binary):
    """Every command with what `--help` says of it, the ones inside others below them."""
    page = ["# Every command\n", "As `--help` says it.\n"]

    def describe(path):
        text = output(binary, *path, "--help")
        title = " ".join(["distillery", *path])
        page.append(f"\n{'#' * min(2 + max(len(path) - 1, 0), 4)} `{title}`\n\n```text\n{text.rstrip()}\n```\n")
        for name in subcommands(text):
            describe([*path, name])

    describe([])
    return "".join(page)


def languages():
    """The README of each template, as it stands in the directory that `distillery new` makes."""
    for directory, title in LANGUAGES.items():
        text = (TOP / "host/templates" / directory / "README.md").read_text()
        text = text.replace("# {{name}}", f"# {title}", 1).replace("{{name}}", "hello")
        yield f"languages/{directory}.md", text
    listed = {path.parent.name for path in (TOP / "host/templates").glob("*/README.md")}
    assert listed == set(LANGUAGES), f"languages without a page: {listed ^ set(LANGUAGES)}"


def table_of_languages():
    readme = (TOP / "README.md").read_text()
    return re.search(r"<!-- languages:.*?-->\n(.*?)<!-- end of languages -->", readme, re.DOTALL).group(1)


def tests():
    """The names of all tests and of the functions around them."""
    names = set()
    for folder in ("host/src", "tests/fuzz", "tests/tests"):
        for file in (TOP / folder).rglob("*.rs"):
            names.update(re.findall(r"\bfn ([a-z0-9_]+)", file.read_text()))
    return names


def proofs():
    """The tests that the page on security names, which must exist."""
    named = re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`", (HERE / "security.md").read_text())
    missing = sorted(set(named) - tests())
    assert not missing, f"docs/security.md names tests that are not there: {', '.join(missing)}"
    assert named, "docs/security.md names no test"


def main(binary):
    proofs()
    write("configuration.md", output(binary, "config", "--markdown"))
    write("commands.md", commands(binary))
    write("languages-table.md", table_of_languages())
    for name, text in languages():
        write(name, text)


if __name__ == "__main__":
    main(sys.argv[1])
