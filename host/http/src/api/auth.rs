//! Authentication: turns a request into a caller, and handles login and logout.

use super::{Api, ApiState, json_of, operation::Operation, request, route::Route};
use crate::{
    answer::ApiError,
    extensions::{ClientAddress, ForwardedUser, OfferedTokens, Secure},
};
use axum::{
    Extension,
    extract::{FromRequestParts, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{AUTHORIZATION, COOKIE, RETRY_AFTER, SET_COOKIE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use distillery_core::{
    auth::{self, Access, Caller, Permission, Rule, Scope, UserName, client_address, may},
    call::CallName,
    trace::TraceContext,
};
use distillery_store::{
    accounts::Hash,
    identity::{Identity, NoEntry, Shown, Unknown, standing::Credential},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

/// The name of the session cookie.
pub(super) const SESSION: &str = "distillery_session";

pub(super) fn routes() -> Vec<Route> {
    let known = json!({"User": "ada", "Token": false, "Scopes": ["call:*", "systems:write"]});
    let mut explained = known.clone();
    explained["Explain"] = json!({"Scope": "call:echo", "Allowed": true, "Rule": "the scope call:* is held"});
    let show_operation = Operation::new("showCaller", "auth", "Returns the caller's identity and scopes")
        .query(
            "explain",
            "Also returns whether the caller has this scope, and the rule that decides",
            json!({"$ref": "#/components/schemas/Scope"}),
            json!("call:echo"),
        )
        .answers::<Known<'_>>(200, "The caller. An anonymous caller has an empty name.", explained);
    let log_in_operation = Operation::new("logIn", "auth", "Starts a browser session")
        .body::<Login>(json!({"user": "ada", "password": "correct horse battery"}))
        .error(401, "The user or password is wrong, or the token is invalid.")
        .error(429, "There were too many attempts.")
        .answers::<Known<'_>>(200, "The user; the session is set as a cookie.", known)
        .with(200, &["Cache-Control", "Set-Cookie"], json!({}));
    let log_out_operation = Operation::new("logOut", "auth", "Ends the session, if there is one").answers_nothing(
        204,
        "The session has ended.",
        &["Set-Cookie"],
    );
    vec![
        Route::at("/auth").get(show, show_operation),
        Route::at("/auth/session").post(log_in, log_in_operation).delete(log_out, log_out_operation),
    ]
}

/// The services and settings that authentication needs.
#[derive(Clone)]
pub struct Door {
    pub identity: Arc<Identity>,
    /// If true, browsers send the session cookie over TLS only.
    pub secure_cookies: bool,
}

/// Extracts the caller that [`identify`] found, or the operator on an operator connection.
pub struct Authenticated(pub Caller);

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address);
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_else(Caller::nobody);
        Ok(Self(Caller { address, trace: parts.extensions.get::<TraceContext>().copied(), ..caller }))
    }
}

/// Identifies the caller. Invalid credentials get 401, never anonymous access.
pub async fn identify(door: &Door, request: &mut Request) -> Result<Caller, Response> {
    let secure = request.extensions().get::<Secure>().is_some_and(|Secure(secure)| *secure);
    let forwarded = request.extensions_mut().remove::<ForwardedUser>();
    let offered = request.extensions_mut().remove::<OfferedTokens>();
    let caller = match shown(request.headers(), offered) {
        // The proxy's user applies unless the request brings a token of this server.
        Ok(None | Some(Shown::Session(_))) | Err(_) if forwarded.is_some() => match door.forwarded(forwarded).await {
            Ok((user, caller)) => {
                request.extensions_mut().insert(Credential::Forwarded(user));
                caller
            }
            Err(error) => return Err(error.into_response()),
        },
        Ok(None) => door.identity.nobody(),
        Ok(Some(shown)) => match door.identity.caller(shown).await {
            Ok(caller) => {
                request.extensions_mut().insert(Credential::Shown(shown));
                caller
            }
            // A login or logout is allowed to bring an expired session.
            Err(Unknown::Session) if is_session_route(request.uri()) => door.identity.nobody(),
            Err(error) => return Err(turned_away(door, error, secure)),
        },
        Err(refused) => return Err(refused.into_response()),
    };
    Ok(caller)
}

/// Returns the credential of a request; a token precedes a session. Ambiguous credentials are an error.
fn shown(headers: &HeaderMap, offered: Option<OfferedTokens>) -> Result<Option<Shown>, ApiError> {
    let wrong = |what| Err(ApiError::new(StatusCode::UNAUTHORIZED, what));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), offered) {
        (Some(_), Some(_)) => wrong("show the token once: in Authorization, or as a subprotocol"),
        (Some(_), None) if values.next().is_some() => wrong("send one header Authorization"),
        (Some(value), None) => match value.to_str().ok().and_then(|it| it.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Some(Shown::Token(Hash::of(token.trim()))))
            }
            _ => wrong("send the token as Authorization: Bearer <token>"),
        },
        (None, Some(OfferedTokens(tokens))) => match tokens.as_slice() {
            [token] => Ok(Some(Shown::Token(Hash::of(token.reveal())))),
            _ => wrong("offer one subprotocol with a token"),
        },
        (None, None) => Ok(session(headers).map(Shown::Session)),
    }
}

/// Returns the session from the cookies, even if they are not valid text. Two different values count as an invalid
/// session.
fn session(headers: &HeaderMap) -> Option<Hash> {
    let cookies = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|it| *it == b';'));
    let named = cookies.filter_map(|cookie| cookie.trim_ascii().strip_prefix(SESSION.as_bytes()));
    let mut values = named.filter_map(|rest| rest.trim_ascii_start().strip_prefix(b"=")).map(<[u8]>::trim_ascii);
    let first = values.next()?;
    let value = if values.all(|other| other == first) { first } else { b"" };
    Some(Hash::of(&String::from_utf8_lossy(value)))
}

fn is_session_route(uri: &Uri) -> bool {
    let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
    super::ROOTS.iter().any(|root| path.strip_prefix(root) == Some("/auth/session"))
}

fn turned_away(door: &Door, error: Unknown, secure: bool) -> Response {
    match error {
        Unknown::Token => ApiError::new(StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
        Unknown::Session => {
            let answer = ApiError::new(StatusCode::UNAUTHORIZED, error.to_string()).into_response();
            // Deletes the invalid cookie, so that the browser's next request comes without one.
            with_cookie(answer, &door.cookie("", Duration::ZERO, secure))
        }
        Unknown::Account(error) => ApiError::from(error).into_response(),
    }
}

impl Door {
    /// Returns the user that a trusted proxy names.
    async fn forwarded(&self, forwarded: Option<ForwardedUser>) -> Result<(UserName, Caller), ApiError> {
        let named = forwarded.and_then(|ForwardedUser(name)| name).and_then(|name| name.parse::<UserName>().ok());
        let what = "the proxy's X-Forwarded-User is not one name of a user";
        let user = named.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, what))?;
        let caller = self.identity.forwarded(&user).await.map_err(|error| ApiError::of_server(&error))?;
        Ok((user, caller))
    }

    /// Builds the session cookie: hidden from scripts, and never sent by other sites.
    fn cookie(&self, value: &str, lasts: Duration, secure: bool) -> String {
        let secure = if secure || self.secure_cookies { "; Secure" } else { "" };
        let lasts = lasts.as_secs();
        format!("{SESSION}={value}; Path=/api; HttpOnly; SameSite=Strict; Max-Age={lasts}{secure}")
    }
}

fn with_cookie(mut answer: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

/// Checks that the caller holds `scope`.
pub(super) fn needs(caller: &Caller, scope: &str) -> Result<(), ApiError> {
    if may(caller, Permission::Use(scope)) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, format!("this needs the scope {scope}")))
}

/// The caller, in the API's representation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Caller")]
struct Known<'a> {
    /// The user's name; empty for an anonymous caller.
    user: &'a str,
    /// Whether the caller authenticated with a token.
    token: bool,
    scopes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Explained>,
}

/// Whether the caller is allowed one action, and the rule that decides.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(rename = "Explanation")]
struct Explained {
    scope: String,
    allowed: bool,
    rule: String,
}

impl<'a> From<&'a Caller> for Known<'a> {
    fn from(caller: &'a Caller) -> Self {
        let scopes = caller.scopes.iter().map(|scope| scope.0.as_str()).collect();
        Self { user: &caller.user, token: caller.token.is_some(), scopes, explain: None }
    }
}

async fn show(State(state): State<Api>, Authenticated(caller): Authenticated, uri: Uri) -> Result<Response, ApiError> {
    let asked = request::query(&uri).find(|(name, _)| name == "explain");
    let explain = asked.map(|(_, scope)| explain(&state, &caller, &scope)).transpose()?;
    json_of(&Known { explain, ..Known::from(&caller) })
}

fn explain(state: &ApiState, caller: &Caller, asked: &str) -> Result<Explained, ApiError> {
    let bad = |what: String| ApiError::new(StatusCode::BAD_REQUEST, what);
    let scope: Scope = asked.parse().map_err(|error: auth::BadScope| bad(error.to_string()))?;
    let name = scope.0.strip_prefix("call:").and_then(|name| name.parse::<CallName>().ok());
    let rule = match &name {
        Some(name) => {
            let snapshot = state.catalog.snapshot();
            let access = snapshot.call(name.as_str()).map_or(Access::Scoped, |call| call.spec.access);
            auth::rule(caller, Permission::Run(name, access))
        }
        None => auth::rule(caller, Permission::Use(&scope.0)),
    };
    let mut sentence = rule.to_string();
    if let Rule::Held(scope) = &rule
        && state.door.identity.anonymous().contains(scope)
    {
        sentence += ", granted to everyone by auth.anonymous";
    }
    Ok(Explained { scope: scope.0, allowed: rule.allows(), rule: sentence })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    user: String,
    password: String,
}

async fn log_in(State(state): State<Api>, request: Request) -> Result<Response, ApiError> {
    let from = request.extensions().get::<ClientAddress>();
    let from = from.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ClientAddress(address)| client_address(*address));
    let secure = request.extensions().get::<Secure>().is_some_and(|Secure(secure)| *secure);
    let Login { user, password } = request::body(request).await?;
    let identity = &state.door.identity;
    let secret = match identity.log_in(from, &user, password).await {
        Ok(secret) => secret,
        Err(NoEntry::Account(error)) => return Err(error.into()),
        Err(error @ NoEntry::Wrong) => return Err(ApiError::new(StatusCode::UNAUTHORIZED, error.to_string())),
        Err(error @ (NoEntry::Wait(_) | NoEntry::Busy)) => {
            let wait = if let NoEntry::Wait(wait) = error { wait.as_secs() + 1 } else { 1 };
            let answer = ApiError::new(StatusCode::TOO_MANY_REQUESTS, error.to_string());
            return Ok(([(RETRY_AFTER, wait.to_string())], answer).into_response());
        }
    };
    let caller = identity.caller(Shown::Session(Hash::of(secret.as_str()))).await;
    let caller = caller.map_err(|error| ApiError::new(StatusCode::UNAUTHORIZED, error.to_string()))?;
    let cookie = state.door.cookie(secret.as_str(), identity.session_time(), secure);
    Ok(with_cookie(json_of(&Known::from(&caller))?, &cookie))
}

/// Logs out. Succeeds without a session too, so that the browser always drops its cookie.
async fn log_out(
    State(state): State<Api>,
    secure: Option<Extension<Secure>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let secure = secure.is_some_and(|Extension(Secure(secure))| secure);
    if let Some(session) = session(&headers) {
        state.door.identity.log_out(session).await.map_err(|error| ApiError::of_server(&error))?;
    }
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), &state.door.cookie("", Duration::ZERO, secure)))
}
