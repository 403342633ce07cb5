//! An empty package: build.py compiles C sources of its dependencies.
