//! A caller's own tokens: what they are, new ones, and the end of them.

use super::{ApiState, auth::needs, error::ApiError, json_of, json_with, moment, request};
use crate::{
    auth::{Caller, Scope, UserName},
    store::accounts::{NewToken, Token},
};
use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The longest label.
const LABEL: usize = 200;

/// A token as the API shows it, and once the token itself.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    label: &'a str,
    scopes: Vec<&'a str>,
    created: String,
    expires: Option<String>,
    used: Option<String>,
}

impl<'a> From<&'a Token> for Shown<'a> {
    fn from(token: &'a Token) -> Self {
        Self {
            id: &token.id,
            token: None,
            label: &token.label,
            scopes: token.scopes.iter().map(|scope| scope.0.as_str()).collect(),
            created: moment(token.created),
            expires: token.expires.map(moment),
            used: token.used.map(moment),
        }
    }
}

/// The user that the caller is: the one whose tokens these are.
fn oneself(caller: &Caller) -> Result<UserName, ApiError> {
    if caller.user.is_empty() {
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "log in, or show a token: this is for users"));
    }
    caller.user.parse().map_err(|_| {
        ApiError::new(StatusCode::FORBIDDEN, format!("the {} is no user: use `distillery token`", caller.user))
    })
}

/// Changes what lets the caller in: a session may, and a token only if it was made for that.
fn may_change_tokens(caller: &Caller) -> Result<(), ApiError> {
    if caller.token { needs(caller, "tokens:write") } else { Ok(()) }
}

pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Response, ApiError> {
    let user = oneself(&caller)?;
    let tokens = state.door.identity.ask(move |accounts| accounts.tokens(Some(user.as_str()))).await;
    let tokens = tokens.map_err(|error| ApiError::of_server(&error))?;
    json_of(&tokens.iter().map(Shown::from).collect::<Vec<_>>())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    label: String,
    /// Nothing means all that the caller may.
    scopes: Option<Vec<String>>,
    /// Nothing means that it never expires.
    expires: Option<String>,
}

pub(super) async fn add(State(state): State<ApiState>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    let user = oneself(&caller)?;
    may_change_tokens(&caller)?;
    let Wanted { label, scopes, expires } = request::body(request).await?;
    let bad = |what: String| ApiError::new(StatusCode::BAD_REQUEST, what);
    if label.chars().count() > LABEL || label.chars().any(char::is_control) {
        return Err(bad(format!("a label is one line of at most {LABEL} characters")));
    }
    let asked = scopes.map(|scopes| scopes.iter().map(|it| it.parse()).collect::<Result<Vec<Scope>, _>>());
    let asked = asked.transpose().map_err(|error| bad(error.to_string()))?;
    let anonymous = state.door.identity.anonymous();
    let scopes = match asked.unwrap_or_else(|| vec![Scope::all()]) {
        // A token cannot make one that may more than itself.
        asked if caller.token => {
            let own: Vec<_> = caller.scopes.iter().filter(|scope| !anonymous.contains(scope)).cloned().collect();
            Scope::common(&asked, &own)
        }
        asked => asked,
    };
    let expires = expires.map(|text| {
        let lasts = humantime::parse_duration(&text).ok().and_then(|it| time::Duration::try_from(it).ok());
        lasts
            .and_then(|it| OffsetDateTime::now_utc().checked_add(it))
            .ok_or_else(|| bad(format!("{text:?} is not how long a token may last: write 30d or 12h")))
    });
    let new = NewToken { user, label, scopes, expires: expires.transpose()? };
    let made = state.door.identity.ask(move |accounts| accounts.add_token(&new)).await;
    let (token, secret) = made?;
    json_with(StatusCode::CREATED, &Shown { token: Some(secret.as_str()), ..Shown::from(&token) })
}

pub(super) async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let user = oneself(&caller)?;
    may_change_tokens(&caller)?;
    let identity = &state.door.identity;
    let token = id.clone();
    let revoked = identity.ask(move |accounts| accounts.revoke(&token, Some(user.as_str()))).await;
    if !revoked.map_err(|error| ApiError::of_server(&error))? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("you have no token {id:?}")));
    }
    identity.forget();
    Ok(StatusCode::NO_CONTENT.into_response())
}
