//! A request that runs a call: the parameters in its query or its body, and the form of its answer.

use crate::{
    answer::ApiError,
    api::request::{BODY, query, raw_body},
    wire::exchange::Form,
};
use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderMap, StatusCode, Uri,
        header::{ACCEPT, CONTENT_TYPE},
        request::Parts,
    },
};
use distillery_plugin::arguments::Arguments;
use distillery_process::dispatch;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The media type of a body that is a description of the call. Every other body is the input of the call.
pub const DESCRIPTION: &str = "application/vnd.distillery.call+json";

/// The names in a query that are no names of parameters.
pub(super) const ORDERED: &str = "params";
pub(super) const DETACH: &str = "detach";

/// A request to run a call.
#[derive(Debug)]
pub struct Asked {
    pub parts: Parts,
    /// The input of the call.
    pub body: Body,
    pub call: dispatch::Request,
    pub form: Form,
    /// Whether the client answers questions of the call, and is told when it waits for input.
    pub answers: bool,
}

/// A call with its input, as the body of a request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CallDescription")]
pub(super) struct Description {
    /// The parameters: a list in order, or an object by name.
    params: Option<Given>,
    /// The input of the call; none by default.
    #[serde(default)]
    stdin: String,
    /// Whether the process outlives the request, which gets 202 with its id.
    #[serde(default)]
    detach: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "CallParameters")]
enum Given {
    Ordered(Vec<String>),
    Named(BTreeMap<String, Value>),
}

/// The value of a named parameter; a list if the parameter takes the rest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "CallParameterValue")]
enum Value {
    One(String),
    Rest(Vec<String>),
}

impl From<Given> for Arguments {
    fn from(given: Given) -> Self {
        match given {
            Given::Ordered(values) => Self::Ordered(values),
            Given::Named(named) => {
                let values = |value| match value {
                    Value::One(value) => vec![value],
                    Value::Rest(values) => values,
                };
                let named = named.into_iter();
                let each = named.map(|(name, value)| values(value).into_iter().map(move |it| (name.clone(), it)));
                Self::Named(each.flatten().collect())
            }
        }
    }
}

impl Asked {
    /// Reads a request to run the call `name`. Reads its body only if it is a description.
    pub async fn read(name: String, request: Request) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let (arguments, mut detach) = in_query(&parts.uri)?;
        let form = form(&parts.headers);
        if !is_description(&parts.headers) {
            let call = dispatch::Request { call: name, params: arguments.unwrap_or(Arguments::Ordered(Vec::new())) };
            return Ok(Self { parts, body, call, form: if detach { Form::Id } else { form }, answers: false });
        }
        let bytes = raw_body(Request::new(body), BODY).await?;
        let described: Description = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("the body is not what is needed here: {error}")))?;
        detach |= described.detach;
        let params = match (arguments, described.params) {
            (Some(_), Some(_)) => return Err(bad("give the parameters in the query or in the body, not in both")),
            (Some(arguments), None) => arguments,
            (None, Some(given)) => given.into(),
            (None, None) => Arguments::Ordered(Vec::new()),
        };
        let call = dispatch::Request { call: name, params };
        Ok(Self {
            parts,
            body: described.stdin.into(),
            call,
            form: if detach { Form::Id } else { form },
            answers: false,
        })
    }
}

/// Returns the form of the answer that the client prefers.
pub fn form(headers: &HeaderMap) -> Form {
    Form::preferred(headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()))
}

fn bad(what: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, what)
}

fn is_description(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(DESCRIPTION)
}

/// Returns the parameters in the query, if there are any, and whether the process is to outlive the request.
fn in_query(uri: &Uri) -> Result<(Option<Arguments>, bool), ApiError> {
    let (mut ordered, mut named, mut detach) = (Vec::new(), Vec::new(), false);
    for (name, value) in query(uri) {
        match &*name {
            ORDERED => ordered.push(value.into_owned()),
            DETACH => {
                detach = match &*value {
                    "" | "true" => true,
                    "false" => false,
                    _ => return Err(bad(format!("{DETACH}: write it alone, or with true or false"))),
                };
            }
            _ => named.push((name.into_owned(), value.into_owned())),
        }
    }
    let arguments = match (ordered.is_empty(), named.is_empty()) {
        (true, true) => None,
        (false, true) => Some(Arguments::Ordered(ordered)),
        (true, false) => Some(Arguments::Named(named)),
        (false, false) => {
            return Err(bad(format!("give the parameters by name or, as {ORDERED}, by position, not in both ways")));
        }
    };
    Ok((arguments, detach))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn asked(query: &str, kind: &str, body: &'static str) -> Result<(Arguments, Form, String), String> {
        let request = Request::builder().uri(format!("/calls/echo?{query}")).header("content-type", kind);
        let asked = Asked::read("echo".into(), request.body(Body::from(body)).unwrap()).await;
        let asked = asked.map_err(|error| format!("{} {}", error.status.as_u16(), error.message))?;
        assert_eq!(asked.call.call, "echo");
        let body = asked.body.collect().await.unwrap().to_bytes();
        Ok((asked.call.params, asked.form, String::from_utf8(body.to_vec()).unwrap()))
    }

    fn ordered(values: &[&str]) -> Arguments {
        Arguments::Ordered(values.iter().map(|&it| it.to_owned()).collect())
    }

    fn named(values: &[(&str, &str)]) -> Arguments {
        Arguments::Named(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[tokio::test]
    async fn parameters_come_from_the_query_and_the_body_is_input() {
        for kind in ["", "application/x-www-form-urlencoded", "text/plain", "application/json", "odd"] {
            let text = r#"{"params":["a"]}"#;
            assert_eq!(asked("", kind, text).await.unwrap(), (ordered(&[]), Form::Text, text.to_owned()), "{kind}");
        }
        for (query, params, form) in [
            ("slug=a%20b&tag=1&tag=2", named(&[("slug", "a b"), ("tag", "1"), ("tag", "2")]), Form::Text),
            ("params=a&params=&detach", ordered(&["a", ""]), Form::Id),
            ("detach=true", ordered(&[]), Form::Id),
            ("detach=false", ordered(&[]), Form::Text),
        ] {
            assert_eq!(asked(query, "", "in").await.unwrap(), (params, form, "in".to_owned()), "{query}");
        }
        for query in ["params=a&slug=b", "detach=perhaps"] {
            assert!(asked(query, "", "").await.unwrap_err().starts_with("400 "), "{query}");
        }
    }

    #[tokio::test]
    async fn description_has_parameters_and_input() {
        let kind = "Application/vnd.distillery.call+json; charset=utf-8";
        for (body, params, form, input) in [
            ("{}", ordered(&[]), Form::Text, ""),
            (r#"{"params":["a","b"],"stdin":"in\n"}"#, ordered(&["a", "b"]), Form::Text, "in\n"),
            (r#"{"params":{"b":["1","2"],"a":"x"}}"#, named(&[("a", "x"), ("b", "1"), ("b", "2")]), Form::Text, ""),
            (r#"{"detach":true}"#, ordered(&[]), Form::Id, ""),
        ] {
            assert_eq!(asked("", kind, body).await.unwrap(), (params, form, input.to_owned()), "{body}");
        }
        assert_eq!(asked("slug=a", kind, "{}").await.unwrap().0, named(&[("slug", "a")]));
        for (query, body) in [("slug=a", r#"{"params":[]}"#), ("", "text"), ("", r#"{"input":""}"#), ("", "")] {
            assert!(asked(query, kind, body).await.unwrap_err().starts_with("400 "), "{query} {body}");
        }
    }
}
