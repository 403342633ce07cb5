//! `pow-1`, the protocol of clients of the original distillery.

use super::Protocol;
use crate::wire::pow1::MESSAGES;
use serde_json::json;

const ABOUT: &str = "\
What clients of the original distillery speak, below `/api/v1/pow/` whether it is offered or not, and offered as `pow-1` \
at `/api/v1/ws`. Text frames are a stream of bytes both ways, not lines, and binary frames are JSON in UTF-8. It ends with \
one result, and the server closes with 1000 after that. The same by requests is in `/api/v1/pow/openapi.json`.";

pub(super) fn protocol() -> Protocol {
    Protocol::new("pow1", "pow-1", "/api/v1/pow/", ABOUT, &json!({"type": "object"})).says_all(MESSAGES)
}
