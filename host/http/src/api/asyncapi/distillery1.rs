//! `distillery-1`, the full protocol with binary streams and detached processes.

use super::{Protocol, offers};
use crate::wire::distillery1::MESSAGES;

const ABOUT: &str = "\
Offered as `distillery-1`. Text frames are JSON messages with a `type`, and binary frames are bytes: to the server raw \
stdin, and from the server a piece of stdout or stderr with its offset in the stream. The process can outlive the \
connection, and a client can attach again from any offset that is still kept. The conversation ends with one message \
`ended`, and then the server closes with 1000.";

pub(super) fn protocol() -> Protocol {
    Protocol::new("distillery1", "distillery-1", "/api/v1/ws", ABOUT, &offers("distillery-1")).says_all(MESSAGES)
}
