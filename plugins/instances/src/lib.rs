//! The calls on instances: a directory of instances, their containers, their snapshots, and their entries among the
//! public systems.
//!
//! It knows files, templates and a [`Host`], not WebAssembly. Native tests can therefore cancel or crash it at any
//! point.

pub mod action;
pub mod archive;
pub mod compose;
pub mod dotenv;
pub mod entry;
pub mod files;
pub mod form;
pub mod full;
#[cfg(target_family = "wasm")]
pub mod guest;
pub mod host;
pub mod instance;
pub mod lock;
pub mod manifest;
pub mod moment;
pub mod mount;
pub mod retention;
pub mod service;
pub mod slug;
pub mod stack;
pub mod template;
pub mod tree;
pub mod value;

pub use host::Host;
pub use mount::Mount;
