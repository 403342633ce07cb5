//! The calls on instances: a directory of instances, their snapshots, and their entries among the public systems.
//!
//! It knows files and a [`Host`], not WebAssembly. Native tests can therefore cancel or crash it at any point.

pub mod action;
pub mod archive;
pub mod dotenv;
pub mod entry;
pub mod flavor;
pub mod form;
pub mod host;
pub mod instance;
pub mod lock;
pub mod manifest;
pub mod moment;
pub mod mount;
pub mod policy;
pub mod slug;
pub mod template;

pub use host::Host;
pub use mount::Mount;
