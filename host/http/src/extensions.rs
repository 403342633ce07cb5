//! Facts about a request and its connection, for handlers: each is an extension of the request, or of the answer.

use distillery_core::secret::Secret;
use std::net::IpAddr;

/// The client's address of a request, for handlers.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// The user that a proxy names, as written; `None` if there are two.
#[derive(Clone, Debug)]
pub struct ForwardedUser(pub Option<String>);

/// The tokens among the subprotocols of a request. More than one is as invalid as a wrong one.
#[derive(Clone, Debug)]
pub struct OfferedTokens(pub Vec<Secret>);

/// Whether the client uses TLS, with the server or with the proxy in front.
#[derive(Clone, Copy, Debug)]
pub struct Secure(pub bool);

/// Marks an answer whose body is in memory once, however many clients wait for it.
#[derive(Clone, Copy, Debug)]
pub struct SharedBody;
