//! Calls as tools: their description as JSON Schema, and the arguments of a tool as parameters and input.

use distillery_plugin::{
    Call,
    arguments::Arguments,
    params::{ParamSpec, Pattern},
};
use rmcp::model::{JsonObject, Tool};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The property with the input of a call, beside its parameters.
const STDIN: &str = "stdin";
/// The property with the parameters of a call that does not name them.
const PARAMS: &str = "params";

/// What a client gives to a tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub params: Arguments,
    /// The whole input of the call. `None` if the client gives none: then the call can ask.
    pub stdin: Option<String>,
}

/// Describes a call as a tool.
pub(super) fn tool(call: &Call) -> Tool {
    let mut properties = Map::new();
    let mut required = Vec::new();
    match &call.spec.params {
        Some(params) => {
            for param in params.iter() {
                properties.insert(param.name.clone(), property(param));
                if param.required {
                    required.push(Value::from(param.name.as_str()));
                }
            }
        }
        None => {
            let about = "The parameters, in order";
            let any = json!({"type": "array", "items": {"type": "string"}, "description": about});
            properties.insert(PARAMS.to_owned(), any);
        }
    }
    let stdin = json!({"type": "string", "description": "Text that the call reads as its input, all at once"});
    properties.entry(STDIN).or_insert(stdin);
    let mut schema = JsonObject::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("required".to_owned(), required.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    let description = match call.spec.description.as_str() {
        "" => format!("The call {}", call.spec.name),
        description => description.to_owned(),
    };
    Tool::new(call.spec.name.to_string(), description, Arc::new(schema))
}

fn property(param: &ParamSpec) -> Value {
    let mut one = Map::new();
    one.insert("type".to_owned(), "string".into());
    if let Some(pattern) = &param.pattern {
        one.insert("pattern".to_owned(), format!("^(?:{})$", Pattern::as_str(pattern)).into());
    }
    if !param.choices.is_empty() {
        one.insert("enum".to_owned(), param.choices.clone().into());
    }
    let mut property = if param.rest { Map::from_iter([("items".to_owned(), one.into())]) } else { one };
    if param.rest {
        property.insert("type".to_owned(), "array".into());
    }
    if let Some(default) = param.default.as_ref().filter(|_| !param.secret) {
        property.insert("default".to_owned(), default.as_str().into());
    }
    if !param.description.is_empty() {
        property.insert("description".to_owned(), param.description.as_str().into());
    }
    if param.secret {
        property.insert("writeOnly".to_owned(), true.into());
    }
    property.into()
}

/// Reads the arguments of the tool of `call`. The rules for their values are checked when the call starts.
pub(super) fn given(call: &Call, arguments: Option<JsonObject>) -> Result<Given, String> {
    let specs = call.spec.params.as_ref();
    let has = |name: &str| specs.is_some_and(|specs| specs.iter().any(|spec| spec.name == name));
    let (mut named, mut ordered, mut stdin) = (Vec::new(), Vec::new(), None);
    for (name, value) in arguments.unwrap_or_default() {
        if name == STDIN && !has(STDIN) {
            stdin = Some(text(&name, value)?);
        } else if name == PARAMS && specs.is_none() {
            ordered = texts(&name, value)?;
        } else {
            named.extend(texts(&name, value)?.into_iter().map(|value| (name.clone(), value)));
        }
    }
    let params = if named.is_empty() { Arguments::Ordered(ordered) } else { Arguments::Named(named) };
    Ok(Given { params, stdin })
}

/// Returns one or several values. Null is none.
fn texts(name: &str, value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => values.into_iter().map(|value| text(name, value)).collect(),
        value => Ok(vec![text(name, value)?]),
    }
}

/// Returns a value as text: models write numbers and booleans as they are.
fn text(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(is) => Ok(is.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("the argument {name:?} is not text: give a string"))
        }
    }
}
