//! Generated input for everything that reads from outside: frames, lines, manifests, the configuration, modules.
//!
//! Each file generates one kind of input and says what must hold for every such input. `make test` has a short run of
//! each, `make fuzz` a long one. What a hunt finds is kept as a seed in `found/`; a unit test next to the code says
//! what it was.

mod bytes;
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
