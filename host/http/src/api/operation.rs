//! Describes a method of a route: its access, its parameters and every answer.
//!
//! This module knows neither the format of the description nor anything else of the route.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Makes the schema of a type. The generator distinguishes schemas for reading from schemas for writing.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Returns the schema of a type.
pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The access rule of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Every caller; credentials that are presented must still be valid.
    Everyone,
    /// Callers that hold this scope; `auth.anonymous` can grant it to every caller.
    Holder(&'static str),
    /// Authenticated users.
    User,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub who: Who,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    /// A body that is no JSON, or else this description of it.
    pub input: Option<Body>,
    pub answers: BTreeMap<u16, Answer>,
    /// Schemas to include although no other schema refers to them.
    pub more: Vec<SchemaOf>,
}

/// A parameter in the path or in the query.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub place: &'static str,
    pub description: &'static str,
    pub schema: Value,
    pub example: Value,
}

/// The body of a request, as JSON.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub schema: SchemaOf,
    pub example: Value,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub description: String,
    /// The formats; none if the answer has no body.
    pub content: Vec<Content>,
    pub headers: &'static [&'static str],
    /// OpenAPI links: follow-up requests that use values from the body.
    pub links: Value,
}

#[derive(Clone, Debug)]
pub(super) struct Content {
    pub media: &'static str,
    pub schema: SchemaOf,
    pub example: Option<Value>,
}

/// The body of every error.
#[derive(JsonSchema)]
#[schemars(rename = "Error")]
#[expect(dead_code, reason = "only its schema is of use: errors are written where they are made")]
pub(super) struct ErrorBody {
    /// The HTTP status, repeated.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// The problem, and its remedy.
    message: String,
}

impl Operation {
    /// Describes a method that every caller can use. Generated clients name the method `id`.
    pub fn new(id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        let operation = Self {
            id,
            tag,
            summary,
            description: "",
            who: Who::Everyone,
            parameters: Vec::new(),
            body: None,
            input: None,
            answers: BTreeMap::new(),
            more: Vec::new(),
        };
        operation
            .error(401, "The presented token or session is invalid.")
            .error(501, "The API is off: http.api is not true.")
            .error(503, "There are too many connections, or the server's database is temporarily unavailable.")
    }

    pub fn described(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// Restricts the method to callers that hold `scope`.
    pub fn needs(self, scope: &'static str) -> Self {
        Self { who: Who::Holder(scope), ..self }.error(403, "The caller does not hold the required scope.")
    }

    /// Restricts the method to authenticated users.
    pub fn for_users(self) -> Self {
        Self { who: Who::User, ..self }
            .error(401, "The caller is anonymous, or the presented token or session is invalid.")
    }

    /// Adds a path parameter.
    pub fn segment(mut self, name: &'static str, description: &'static str, schema: Value, example: Value) -> Self {
        self.parameters.push(Parameter { name, place: "path", description, schema, example });
        self.error(400, "The path is not UTF-8.")
    }

    /// Adds an optional query parameter.
    pub fn query(mut self, name: &'static str, description: &'static str, schema: Value, example: Value) -> Self {
        self.parameters.push(Parameter { name, place: "query", description, schema, example });
        self.error(400, "A part of the query is not what it must be.")
    }

    /// Adds a request body of this type, with an example.
    pub fn body<T: JsonSchema>(self, example: Value) -> Self {
        let body = Some(Body { schema: schema::<T>, example });
        Self { body, ..self }
            .error(400, "The body is not what is needed here.")
            .error(408, "The body did not come in time.")
            .error(413, "The body has more than 64 KiB, or broke off.")
            .error(415, "The body is not application/json.")
    }

    /// Adds a JSON answer of this type.
    pub fn answers<T: JsonSchema>(self, status: u16, description: &str, example: Value) -> Self {
        self.answers_with::<T>(status, description, "application/json", Some(example))
    }

    /// Adds an answer in another format, described by this type.
    pub fn answers_with<T: JsonSchema>(
        mut self,
        status: u16,
        description: &str,
        media: &'static str,
        example: Option<Value>,
    ) -> Self {
        let content = vec![Content { media, schema: schema::<T>, example }];
        let answer =
            Answer { description: description.to_owned(), content, headers: &["Cache-Control"], links: json!({}) };
        self.answers.insert(status, answer);
        self
    }

    /// Adds another format to an answer that is already described.
    pub fn or<T: JsonSchema>(mut self, status: u16, media: &'static str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer.content.push(Content { media, schema: schema::<T>, example: None });
        }
        self
    }

    /// Adds a request body of any content, which can also be a description of this type.
    pub fn input<T: JsonSchema>(self, example: Value) -> Self {
        Self { input: Some(Body { schema: schema::<T>, example }), ..self }
    }

    /// Includes the schema of a type that occurs inside an answer in another format.
    pub fn speaks_of<T: JsonSchema>(mut self) -> Self {
        self.more.push(schema::<T>);
        self
    }

    /// Adds an answer without a body.
    pub fn answers_nothing(mut self, status: u16, description: &str, headers: &'static [&'static str]) -> Self {
        let answer = Answer { description: description.to_owned(), content: Vec::new(), headers, links: json!({}) };
        self.answers.insert(status, answer);
        self
    }

    /// Adds headers and links to an answer that is already described.
    pub fn with(mut self, status: u16, headers: &'static [&'static str], links: Value) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            (answer.headers, answer.links) = (headers, links);
        }
        self
    }

    /// Marks the answer as cacheable: the same for every caller, with 304 on a match.
    pub fn revalidated(self) -> Self {
        self.with(200, &["Cache-Control", "ETag"], json!({})).answers_nothing(
            304,
            "It is still as the If-None-Match of the request says.",
            &["Cache-Control", "ETag"],
        )
    }

    /// Adds an error. A later description of the same status replaces an earlier one.
    pub fn error(mut self, status: u16, description: &str) -> Self {
        let content = vec![Content { media: "application/json", schema: schema::<ErrorBody>, example: None }];
        let headers: &[&str] = match status {
            401 => &["Cache-Control", "WWW-Authenticate"],
            429 => &["Cache-Control", "Retry-After"],
            _ => &["Cache-Control"],
        };
        let answer = Answer { description: description.to_owned(), content, headers, links: json!({}) };
        self.answers.insert(status, answer);
        self
    }

    /// Marks a request that a page of another origin could cause a browser to send.
    pub fn changing(mut self) -> Self {
        const OTHER: &str = "A page of an origin that is not in http.origins sent it.";
        match self.answers.get_mut(&403) {
            Some(answer) => answer.description = format!("{} Or: {OTHER}", answer.description),
            None => self = self.error(403, OTHER),
        }
        self
    }
}
