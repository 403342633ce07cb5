//! Answers in JSON, and errors: a status and a sentence.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use distillery_store::{accounts::AccountError, public::PublicError};
use serde::Serialize;

/// Builds a JSON answer for this moment and this caller, which must not be cached.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, Body::from(body.into())).into_response()
}

/// Builds a JSON answer from a value.
pub fn json_of(value: &impl Serialize) -> Result<Response, ApiError> {
    json_with(StatusCode::OK, value)
}

pub fn json_with(status: StatusCode, value: &impl Serialize) -> Result<Response, ApiError> {
    match serde_json::to_vec(value) {
        Ok(body) => Ok(json(status, body)),
        Err(error) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

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
        struct Said<'a> {
            status: u16,
            message: &'a str,
        }
        let body = Said { status: self.status.as_u16(), message: &self.message };
        let mut answer = json(self.status, serde_json::to_vec(&body).expect("a number and a string are always JSON"));
        if self.status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

pub async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("no such route: {}", uri.path()))
}
