//! Exit statuses beside a guest's own: those that shells and `timeout` use for the same.

/// The time or cpu limit was reached.
pub const TIME: u8 = 124;
/// Another limit was reached, or the host failed, or the connection was lost.
pub const LIMIT: u8 = 125;
/// The call was not started.
pub const NOT_STARTED: u8 = 126;
pub const INTERRUPTED: u8 = 130;
/// It broke a rule of WebAssembly.
pub const TRAP: u8 = 134;
/// Nobody reads its output any more.
pub const NO_READER: u8 = 141;
pub const TERMINATED: u8 = 143;

/// What `--help` says of them.
pub const HELP: &str = "\
Exit status:
  0    the call succeeded
  124  the limit of time or cpu was reached
  125  another limit was reached, an operator ended it, or the connection was lost: stderr says which
  126  the call was not started: there is none of this name, or it may not be run, or its parameters are wrong
  130  it was cancelled by Ctrl-C
  134  it trapped
  141  nobody reads its output any more
  143  it was cancelled by SIGTERM, or the server is shutting down
  any other is the call's own";
