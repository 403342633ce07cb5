//! Generated input for everything that is read from outside: frames, lines, manifests, the configuration, modules.
//!
//! Each file generates one kind of input and defines what must hold for it. `make test` has a short run of each, `make
//! fuzz` a long one. The seed of a failing input is detached in `found/`; a unit test next to the code documents it.

mod bytes;
mod commands;
mod configurations;
mod documents;
mod frames;
mod hunt;
mod manifests;
mod modules;
mod origins;
mod sentences;
mod streams;
mod subprotocols;
