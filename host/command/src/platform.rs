//! The supervision of commands. It needs Linux; on other systems no command starts, and the error says why.

#[cfg(target_os = "linux")]
mod linux;
// Linux only tests it.
#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", allow(dead_code))]
mod other;

#[cfg(target_os = "linux")]
pub use linux::{SEND, Supervisor, can_confine, send, work};
#[cfg(not(target_os = "linux"))]
pub use other::{SEND, Supervisor, can_confine, send, work};
