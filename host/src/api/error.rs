//! Errors of the API: a status and a sentence, in JSON.

use super::json;
use crate::store::{accounts::AccountError, public::PublicError};
use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// An error answer. The message is for the caller.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// Returns the answer to an error of the server itself; the log has the cause.
    pub fn of_server(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, "cannot answer a request");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "this cannot be done at the moment: the server's log says why")
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        let status = match &error {
            AccountError::TooMuch { .. } => StatusCode::FORBIDDEN,
            AccountError::NoUser(_) => StatusCode::NOT_FOUND,
            AccountError::TooManyTokens(_) => StatusCode::CONFLICT,
            AccountError::NoParent => StatusCode::UNAUTHORIZED,
            other => return Self::of_server(other),
        };
        Self::new(status, error.to_string())
    }
}

impl From<PublicError> for ApiError {
    fn from(error: PublicError) -> Self {
        let status = match &error {
            PublicError::Store(error) => return Self::of_server(error),
            PublicError::TooMany | PublicError::File(_) => StatusCode::CONFLICT,
            PublicError::BadMoment => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        /// The fields in documented order.
        #[derive(Serialize)]
        struct Body<'a> {
            status: u16,
            message: &'a str,
        }
        let body = Body { status: self.status.as_u16(), message: &self.message };
        let mut answer = json(self.status, serde_json::to_vec(&body).expect("a number and a string are always JSON"));
        if self.status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

pub(super) async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("no such route: {}", uri.path()))
}

/// Answers a request with a wrong method. The router adds the header that lists the allowed ones.
pub(super) async fn wrong_method(method: Method) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed here"))
}

/// Answers every request while the API is disabled.
pub(super) async fn off(uri: Uri) -> ApiError {
    match uri.path().strip_prefix(super::ROOT) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            ApiError::new(StatusCode::NOT_IMPLEMENTED, "the API is off: set http.api to true in distillery.yaml")
        }
        _ => no_such_route(uri).await,
    }
}
