//! What is said about a method of a route: who may use it, what it takes, and every answer that it gives.
//!
//! It knows nothing of how that is written down, and of the route only what is said here.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Makes the schema of a type; only for what is read or for what is written is known to the generator.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a type.
pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Who may use a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Everyone; who shows a token or a session must show a good one all the same.
    Everyone,
    /// Whoever holds this scope, which `auth.anonymous` may give to everyone.
    Holder(&'static str),
    /// Users.
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
    pub answers: BTreeMap<u16, Answer>,
    /// Schemas that are spoken of, and that nothing refers to.
    pub more: Vec<SchemaOf>,
}

/// A part of the path or of the query.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub place: &'static str,
    pub description: &'static str,
    pub schema: Value,
    pub example: Value,
}

/// What is sent along, always JSON.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub schema: SchemaOf,
    pub example: Value,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub description: String,
    /// Nothing where there is no body.
    pub content: Option<Content>,
    pub headers: &'static [&'static str],
    /// Where to go on with what is in the body.
    pub links: Value,
}

#[derive(Clone, Debug)]
pub(super) struct Content {
    pub media: &'static str,
    pub schema: SchemaOf,
    pub example: Option<Value>,
}

/// What every error looks like.
#[derive(JsonSchema)]
#[schemars(rename = "Error")]
#[expect(dead_code, reason = "only its schema is of use: errors are written where they are made")]
pub(super) struct ErrorBody {
    /// The status of the answer again.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What is wrong, and what to do about it.
    message: String,
}

impl Operation {
    /// Of a method that everyone may use. `id` is what programs call it.
    pub fn new(id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        let operation = Self {
            id,
            tag,
            summary,
            description: "",
            who: Who::Everyone,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            more: Vec::new(),
        };
        operation
            .error(401, "The token or the session that was shown is no good.")
            .error(501, "The API is off: http.api is not true.")
            .error(503, "There are too many connections, or the server cannot reach its data at the moment.")
    }

    pub fn described(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// For holders of `scope` only.
    pub fn needs(self, scope: &'static str) -> Self {
        Self { who: Who::Holder(scope), ..self }.error(403, "The caller does not hold the scope that this needs.")
    }

    /// For users only.
    pub fn for_users(self) -> Self {
        Self { who: Who::User, ..self }
            .error(401, "Nobody is logged in, or the token or the session that was shown is no good.")
    }

    /// Takes a part of the path.
    pub fn segment(mut self, name: &'static str, description: &'static str, schema: Value, example: Value) -> Self {
        self.parameters.push(Parameter { name, place: "path", description, schema, example });
        self.error(400, "The path is not UTF-8.")
    }

    /// Takes an optional part of the query.
    pub fn query(mut self, name: &'static str, description: &'static str, schema: Value, example: Value) -> Self {
        self.parameters.push(Parameter { name, place: "query", description, schema, example });
        self.error(400, "A part of the query is not what it must be.")
    }

    /// Takes a body of this type, of which `example` is one.
    pub fn body<T: JsonSchema>(self, example: Value) -> Self {
        let body = Some(Body { schema: schema::<T>, example });
        Self { body, ..self }
            .error(400, "The body is not what is needed here.")
            .error(408, "The body did not come in time.")
            .error(413, "The body has more than 64 KiB, or broke off.")
            .error(415, "The body is not application/json.")
    }

    /// Answers with JSON of this type.
    pub fn answers<T: JsonSchema>(self, status: u16, description: &str, example: Value) -> Self {
        self.answers_with::<T>(status, description, "application/json", Some(example))
    }

    /// Answers with something else, written as this type.
    pub fn answers_with<T: JsonSchema>(
        mut self,
        status: u16,
        description: &str,
        media: &'static str,
        example: Option<Value>,
    ) -> Self {
        let content = Some(Content { media, schema: schema::<T>, example });
        let answer =
            Answer { description: description.to_owned(), content, headers: &["Cache-Control"], links: json!({}) };
        self.answers.insert(status, answer);
        self
    }

    /// Speaks of a type that is written into something that is not JSON.
    pub fn speaks_of<T: JsonSchema>(mut self) -> Self {
        self.more.push(schema::<T>);
        self
    }

    /// Answers without a body.
    pub fn answers_nothing(mut self, status: u16, description: &str, headers: &'static [&'static str]) -> Self {
        let answer = Answer { description: description.to_owned(), content: None, headers, links: json!({}) };
        self.answers.insert(status, answer);
        self
    }

    /// Says more of an answer that was described before.
    pub fn with(mut self, status: u16, headers: &'static [&'static str], links: Value) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            (answer.headers, answer.links) = (headers, links);
        }
        self
    }

    /// Its answer is the same for everyone, and need not be sent again to who has it.
    pub fn revalidated(self) -> Self {
        self.with(200, &["Cache-Control", "ETag"], json!({})).answers_nothing(
            304,
            "It is still as the If-None-Match of the request says.",
            &["Cache-Control", "ETag"],
        )
    }

    /// Answers with an error. What is said last of a status is what is said.
    pub fn error(mut self, status: u16, description: &str) -> Self {
        let content = Some(Content { media: "application/json", schema: schema::<ErrorBody>, example: None });
        let headers: &[&str] = match status {
            401 => &["Cache-Control", "WWW-Authenticate"],
            429 => &["Cache-Control", "Retry-After"],
            _ => &["Cache-Control"],
        };
        let answer = Answer { description: description.to_owned(), content, headers, links: json!({}) };
        self.answers.insert(status, answer);
        self
    }

    /// A browser could be made to send this by a page of another origin.
    pub fn changing(mut self) -> Self {
        const OTHER: &str = "A page of an origin that is not in http.origins sent it.";
        match self.answers.get_mut(&403) {
            Some(answer) => answer.description = format!("{} Or: {OTHER}", answer.description),
            None => self = self.error(403, OTHER),
        }
        self
    }
}
