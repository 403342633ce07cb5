//! `pow-1`, the protocol of clients of the original distillery.

use super::Protocol;
use crate::wire::pow1::MESSAGES;
use serde_json::json;

const ABOUT: &str = "\
The protocol of clients of the original distillery. Used below `/api/v1/pow/` with or without a subprotocol, and at \
`/api/v1/ws` if `pow-1` is offered. Text frames are a stream of bytes in both directions, not lines, and binary frames \
are JSON in UTF-8. The conversation ends with one result, and then the server closes with 1000. \
`/api/v1/pow/openapi.json` describes the same protocol over requests.";

pub(super) fn protocol() -> Protocol {
    Protocol::new("pow1", "pow-1", "/api/v1/pow/", ABOUT, &json!({"type": "object"})).says_all(MESSAGES)
}
