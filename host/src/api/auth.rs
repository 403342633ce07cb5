//! Who is asking: the one place that finds it out, and the resource that tells it.

use super::{error::ApiError, json_of};
use crate::{auth::Caller, server::connection::ClientAddress};
use axum::{extract::FromRequestParts, http::request::Parts, response::Response};
use serde::Serialize;
use std::convert::Infallible;

/// There is no way yet to show who one is: everyone is whoever the connection makes of them, or else nobody.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address);
        let caller = parts.extensions.get::<Self>().cloned().unwrap_or_else(Self::nobody);
        Ok(Self { address, ..caller })
    }
}

/// The caller as the API shows it, by the names that clients read.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    user: &'a str,
    token: bool,
    scopes: Vec<&'a str>,
}

pub(super) async fn show(caller: Caller) -> Result<Response, ApiError> {
    let scopes = caller.scopes.iter().map(|scope| scope.0.as_str()).collect();
    json_of(&Shown { user: &caller.user, token: caller.token, scopes })
}
