//! Exit statuses in addition to the guest's own, as used by shells and `timeout`.

/// The process reached the time or cpu limit.
pub const TIME: u8 = 124;
/// Another limit was reached, the host failed, or the connection was lost.
pub const LIMIT: u8 = 125;
/// The call was not started.
pub const NOT_STARTED: u8 = 126;
pub const INTERRUPTED: u8 = 130;
/// The guest trapped.
pub const TRAP: u8 = 134;
/// The output has no reader any more.
pub const NO_READER: u8 = 141;
pub const TERMINATED: u8 = 143;

/// The exit statuses for `--help`.
pub const HELP: &str = "\
Exit status:
  0    the call succeeded
  124  the time or cpu limit was reached
  125  another limit was reached, an operator ended the call, or the connection was lost: stderr says which
  126  the call was not started: unknown name, no permission, or wrong parameters
  130  the call was cancelled by Ctrl-C
  134  the call trapped
  141  the reader of its output has gone
  143  the call was cancelled by SIGTERM, or the server is shutting down
  any other is the call's own";
