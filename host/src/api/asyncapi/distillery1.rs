//! `distillery-1`, the protocol of clients that want more than lines.

use super::{Protocol, offers};
use crate::wire::distillery1::MESSAGES;

const ABOUT: &str = "\
Offered as `distillery-1`. Text frames are JSON messages with a `type`, and binary frames are bytes: to the server stdin \
as it is, and from it a piece of stdout or stderr with its place in the stream. The process may outlive the connection, \
and be attached to again from any offset that is still kept. It ends with one message `ended`, and the server closes with \
1000 after that.";

pub(super) fn protocol() -> Protocol {
    Protocol::new("distillery1", "distillery-1", "/api/v1/ws", ABOUT, &offers("distillery-1")).says_all(MESSAGES)
}
