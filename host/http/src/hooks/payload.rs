//! Parameters of a call from the JSON of a delivery.

use distillery_config::HookParams;
use distillery_plugin::arguments::Arguments;
use serde_json::Value;

/// Returns the parameters that the pointers find in `body`. A value that is null or not there is not given. The error
/// says what is wrong, without a value.
pub(super) fn arguments(params: &HookParams, body: &[u8]) -> Result<Arguments, String> {
    match params {
        HookParams::Ordered(pointers) if pointers.is_empty() => Ok(Arguments::Ordered(Vec::new())),
        HookParams::Named(pointers) if pointers.is_empty() => Ok(Arguments::Ordered(Vec::new())),
        HookParams::Ordered(pointers) => {
            let body = parse(body)?;
            let (mut ordered, mut missing) = (Vec::new(), None);
            for pointer in pointers {
                match (value(&body, pointer)?, missing) {
                    (Some(value), None) => ordered.push(value),
                    // Only the last ones can be absent: the others would get wrong places.
                    (Some(_), Some(missing)) => {
                        return Err(format!("there is no value at {missing}, but one at {pointer}"));
                    }
                    (None, _) => missing = missing.or(Some(pointer)),
                }
            }
            Ok(Arguments::Ordered(ordered))
        }
        HookParams::Named(pointers) => {
            let body = parse(body)?;
            let mut named = Vec::new();
            for (name, pointer) in pointers {
                named.extend(value(&body, pointer)?.map(|value| (name.clone(), value)));
            }
            Ok(Arguments::Named(named))
        }
    }
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| {
        // The error itself can quote the body.
        format!("the body is not JSON at line {} column {}: let the service send JSON", error.line(), error.column())
    })
}

/// Returns the text of a value.
fn value(body: &Value, pointer: &str) -> Result<Option<String>, String> {
    match body.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Bool(it)) => Ok(Some(it.to_string())),
        Some(Value::Number(it)) => Ok(Some(it.to_string())),
        Some(Value::Array(_)) => Err(format!("there is a list at {pointer}: point to one value")),
        Some(Value::Object(_)) => Err(format!("there is an object at {pointer}: point to one value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        br#"{"repository": {"name": "coins", "id": 7, "private": false}, "refs": ["main"], "a/b": "x", "none": null}"#;

    fn ordered(pointers: &[&str]) -> Result<Vec<String>, String> {
        let pointers = HookParams::Ordered(pointers.iter().map(|&it| it.to_owned()).collect());
        let arguments = arguments(&pointers, BODY)?;
        let Arguments::Ordered(values) = arguments else { panic!("{arguments:?}") };
        Ok(values)
    }

    #[test]
    fn pointers_find_single_values() {
        let values = ordered(&["/repository/name", "/repository/id", "/repository/private", "/refs/0", "/a~1b"]);
        assert_eq!(values.unwrap(), ["coins", "7", "false", "main", "x"]);
        assert_eq!(ordered(&["/refs/0", "/none", "/nowhere"]).unwrap(), ["main"]);
        assert!(ordered(&["/none", "/refs/0"]).is_err());
        for wrong in ["/repository", "/refs"] {
            assert!(ordered(&[wrong]).unwrap_err().contains("point to one value"), "{wrong}");
        }
    }

    #[test]
    fn named_values_that_are_not_there_are_not_given() {
        let pointers = [("slug", "/repository/name"), ("flavor", "/none")];
        let pointers = HookParams::Named(pointers.map(|(name, at)| (name.to_owned(), at.to_owned())).into());
        let expected = Arguments::Named(vec![("slug".into(), "coins".into())]);
        assert_eq!(arguments(&pointers, BODY).unwrap(), expected);
        let wrong = arguments(&pointers, b"secret=text").unwrap_err();
        assert!(wrong.starts_with("the body is not JSON") && !wrong.contains("secret"), "{wrong}");
    }

    #[test]
    fn body_without_pointers_can_be_anything() {
        assert_eq!(arguments(&HookParams::Ordered(Vec::new()), b"\xff").unwrap(), Arguments::Ordered(Vec::new()));
    }
}
