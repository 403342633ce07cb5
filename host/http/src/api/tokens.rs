//! The tokens of a caller: listing, creating, and revoking.

use super::{
    Api,
    auth::needs,
    json_of, json_with, moment,
    operation::Operation,
    request::{self, Segment},
    route::Route,
};
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use distillery_core::{
    auth::{Caller, Scope},
    principal::{Principal, UserId},
};
use distillery_store::accounts::{NewToken, Token, TokenUser};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

/// The maximum length of a label.
const LABEL: usize = 200;
/// The form of a token's lifetime, for programs.
const LASTS: &str = "^[1-9][0-9]{0,4}[smhdw]( [1-9][0-9]{0,4}[smhdw]){0,3}$";

pub(super) fn routes() -> Vec<Route> {
    let token = |fields| {
        let mut token = json!({
            "id": "5f2c81d09a3b", "label": "laptop", "scopes": ["call:*"], "created": "2026-01-31T12:00:00Z",
            "expires": "2026-03-02T12:00:00Z", "used": null, "parent": null,
        });
        if fields {
            token["token"] = format!("dst_{}", "0123456789abcdef".repeat(4)).into();
        }
        token
    };
    let link = json!({"revokeToken": {
        "operationId": "revokeToken",
        "parameters": {"id": "$response.body#/id"},
        "description": "Revokes it again.",
    }});
    let list_operation = Operation::new("listTokens", "auth", "Lists the tokens of the caller")
        .for_users()
        .error(403, "The caller is the operator, which is not a user.")
        .answers::<Vec<Shown<'_>>>(200, "The tokens, without their secrets.", json!([token(false)]));
    let add_operation = Operation::new("addToken", "auth", "Makes a token for the caller")
        .described(
            "Needs a session, or a token with the scope `tokens:write`. A token created by another token has at most its \
             scopes, expires with it at the latest, and is revoked with it. The answer contains the resulting values.",
        )
        .for_users()
        .body::<Wanted>(json!({"label": "laptop", "scopes": ["call:*"], "expires": "30d"}))
        .error(
            403,
            "The presented token cannot create tokens, or the user does not hold a requested scope.",
        )
        .error(404, "The user was removed in the meantime.")
        .error(409, "The user has too many tokens already.")
        .answers::<Shown<'_>>(201, "The token, with a secret that is never shown again.", token(true))
        .with(201, &["Cache-Control"], link);
    let revoke_operation = Operation::new("revokeToken", "auth", "Revokes a token of the caller")
        .for_users()
        .segment("id", "The id of the token, not its secret", json!({"type": "string"}), json!("5f2c81d09a3b"))
        .error(403, "The presented token cannot revoke tokens.")
        .answers_nothing(204, "The token is revoked.", &[])
        .error(404, "The caller has no such token.");
    vec![
        Route::at("/auth/tokens").get(list, list_operation).post(add, add_operation),
        Route::at("/auth/tokens/{id}").delete(revoke, revoke_operation),
    ]
}

/// A token, in the API's representation; the answer to its creation includes the secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
struct Shown<'a> {
    id: &'a str,
    /// The secret, only in the answer that creates the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    label: &'a str,
    scopes: Vec<&'a str>,
    #[schemars(extend("format" = "date-time"))]
    created: String,
    /// The time of expiry; never if it is missing.
    #[schemars(extend("format" = "date-time"))]
    expires: Option<String>,
    /// The time of the last use, to the minute.
    #[schemars(extend("format" = "date-time"))]
    used: Option<String>,
    /// The id of the token that created this one, if any.
    parent: Option<&'a str>,
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
            parent: token.parent.as_deref(),
        }
    }
}

/// Returns the caller's account, which owns the tokens.
fn oneself(caller: &Caller) -> Result<UserId, ApiError> {
    let forbidden = |what| Err(ApiError::new(StatusCode::FORBIDDEN, what));
    match &caller.principal {
        Principal::User(id) => Ok(id.clone()),
        Principal::Anonymous => {
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "log in, or show a token: this is for users"))
        }
        Principal::Operator => forbidden("the operator is no user: use `distillery token`".to_owned()),
        Principal::Forwarded(name) => {
            forbidden(format!("{name} has no account here, and tokens need one: add it with `distillery user add`"))
        }
    }
}

/// Checks that the caller is allowed to change credentials: by a session, or by a token with that scope.
fn may_change_tokens(caller: &Caller) -> Result<(), ApiError> {
    if caller.token.is_some() { needs(caller, "tokens:write") } else { Ok(()) }
}

async fn list(State(state): State<Api>, Authenticated(caller): Authenticated) -> Result<Response, ApiError> {
    let user = oneself(&caller)?;
    let tokens = state.door.identity.ask(move |accounts| accounts.tokens(Some(&TokenUser::Id(user)))).await;
    let tokens = tokens.map_err(|error| ApiError::of_server(&error))?;
    json_of(&tokens.iter().map(Shown::from).collect::<Vec<_>>())
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewToken")]
struct Wanted {
    /// The purpose, in one line.
    #[serde(default)]
    #[schemars(length(max = LABEL), regex(pattern = request::ONE_LINE))]
    label: String,
    /// The scopes; all scopes of the caller if it is missing.
    #[schemars(with = "Option<Vec<Scope>>")]
    scopes: Option<Vec<String>>,
    /// The lifetime, such as 30d or 12h; the token never expires if it is missing.
    #[schemars(regex(pattern = LASTS))]
    expires: Option<String>,
}

async fn add(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, ApiError> {
    let user = oneself(&caller)?;
    may_change_tokens(&caller)?;
    let Wanted { label, scopes, expires } = request::body(request).await?;
    let bad = |what: String| ApiError::new(StatusCode::BAD_REQUEST, what);
    if label.chars().count() > LABEL || label.chars().any(char::is_control) {
        return Err(bad(format!("a label is one line of at most {LABEL} characters")));
    }
    let asked = scopes.map(|scopes| scopes.iter().map(|it| it.parse()).collect::<Result<Vec<Scope>, _>>());
    let asked = asked.transpose().map_err(|error| bad(error.to_string()))?;
    let expires = expires.map(|text| {
        lasting(&text)
            .and_then(|it| OffsetDateTime::now_utc().checked_add(it))
            .ok_or_else(|| bad(format!("{text:?} is not how long a token may last: write 30d or 12h")))
    });
    let new = NewToken {
        user: TokenUser::Id(user),
        label,
        scopes: asked.unwrap_or_else(|| vec![Scope::all()]),
        expires: expires.transpose()?,
        parent: caller.token,
    };
    let made = state.door.identity.ask(move |accounts| accounts.add_token(&new)).await;
    let (token, secret) = made?;
    json_with(StatusCode::CREATED, &Shown { token: Some(secret.as_str()), ..Shown::from(&token) })
}

/// Parses the lifetime of a token.
fn lasting(text: &str) -> Option<time::Duration> {
    let parts: Vec<_> = text.split(' ').collect();
    let plain = |part: &&str| {
        let (number, unit) = part.split_at_checked(part.len().saturating_sub(1)).unwrap_or_default();
        let digits = (1..=5).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        digits && !number.starts_with('0') && matches!(unit, "s" | "m" | "h" | "d" | "w")
    };
    if parts.len() > 4 || !parts.iter().all(plain) {
        return None;
    }
    humantime::parse_duration(text).ok().and_then(|it| time::Duration::try_from(it).ok())
}

async fn revoke(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let user = oneself(&caller)?;
    may_change_tokens(&caller)?;
    let identity = &state.door.identity;
    let token = id.clone();
    let revoked = identity.ask(move |accounts| accounts.revoke(&token, Some(&user))).await;
    if !revoked.map_err(|error| ApiError::of_server(&error))? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("you have no token {id:?}")));
    }
    identity.forget();
    Ok(StatusCode::NO_CONTENT.into_response())
}
