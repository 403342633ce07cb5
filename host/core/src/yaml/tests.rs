use super::*;
use crate::size::Size;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    name: String,
    limits: Limits,
    #[serde(deserialize_with = "distinct")]
    calls: BTreeMap<String, Call>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    memory: Size,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    access: Access,
    #[serde(default)]
    params: Vec<u8>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Access {
    Public,
    Scoped,
}

fn error(text: &str) -> String {
    read::<File>(text, Path::new("a/f.yaml")).unwrap_err().to_string()
}

#[test]
fn error_names_place_key_and_allowed_values() {
    assert_eq!(
        error("name: x\ncalls:\n  echo:\n    acess: public\n"),
        "a/f.yaml:4:5: calls.echo.acess: unknown key: did you mean access? (allowed: access, params)"
    );
    assert_eq!(
        error("calls: {echo: {access: publick}}"),
        "a/f.yaml:1:16: calls.echo.access: \"publick\" is not allowed: did you mean public? (allowed: public, scoped)"
    );
    assert_eq!(error("zzz: 1"), "a/f.yaml:1:1: zzz: unknown key: allowed: name, limits, calls");
    assert_eq!(error("name: a\ncalls:\n  echo: {}\n"), "a/f.yaml:3:3: calls.echo: the key access is missing");
    assert_eq!(
        error("limits:\n  memory: 16MB\n"),
        "a/f.yaml:2:3: limits.memory: \"16MB\" is not a size: write a whole number of bytes, KiB, MiB, GiB or TiB, \
             such as 256MiB"
    );
    assert_eq!(
        error("calls:\n  echo:\n    access: public\n    params:\n      - 1\n      - [2]\n"),
        "a/f.yaml:6:9: calls.echo.params[1]: found a list, expected a whole number"
    );
}

#[test]
fn error_is_one_bounded_line() {
    let key = "x\n".repeat(300);
    let error = error(&format!("{key:?}: 1"));
    assert!(error.starts_with("a/f.yaml:1:1: x\\nx\\n") && !error.contains('\n') && error.len() < 2000, "{error}");
}

#[test]
fn aliases_cannot_expand_beyond_the_bound() {
    let levels =
        (1..9).map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 4].join(", ")));
    let laughs = "a0: &a0 ha\n".to_owned() + &levels.collect::<String>();
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(5000), vec!["*a"; 5000].join(", "));
    for text in [laughs, long] {
        let error = error(&text);
        assert!(error.ends_with("its aliases stand for too much: write out what they repeat"), "{error}");
    }
    assert!(error(&("[".repeat(200) + &"]".repeat(200))).contains("nested too deeply"));
    assert_eq!(read::<Vec<String>>("[&a x, *a, *a]", Path::new("f.yaml")).unwrap(), ["x", "x", "x"]);
}

#[test]
fn duplicate_key_is_an_error() {
    assert_eq!(error("name: a\nname: b\n"), "a/f.yaml:1:1: name: this key is there twice: remove one");
    assert_eq!(
        error("calls:\n  a: {access: public}\n  a: {access: scoped}\n"),
        "a/f.yaml:2:3: calls.a: this key is there twice: remove one"
    );
}

#[test]
fn invalid_yaml_is_reported_in_one_line() {
    for (text, told) in [
        ("name: a\n  b: c\n", "2:4: mapping values are not allowed in this context"),
        ("name: *x", "1:7: unknown anchor"),
        ("- 1", "1:1: found a list, expected a mapping"),
        ("just words", "1:1: found string \"just words\", expected a mapping"),
        ("name: [", "2:1: did not find expected node content"),
        ("limits: []", "1:1: limits: found a list, expected a mapping"),
    ] {
        let error = error(text);
        assert!(error.starts_with(&format!("a/f.yaml:{told}")) && !error.contains('\n'), "{error}");
    }
    assert!(error("--- 1\n--- 2\n").contains("more than one document"));
}

#[test]
fn empty_file_is_an_error() {
    for text in ["", " \n", "# nothing\n\n", "\u{feff}# nothing", "---\n", "~", "null\n"] {
        let error = error(text);
        assert!(error.contains(": it is empty: put its content back"), "{text:?}: {error}");
    }
    let file: File = read("{}", Path::new("f.yaml")).unwrap();
    assert_eq!((file.name.as_str(), file.limits.memory, file.calls.len()), ("", Size::default(), 0));
}

#[test]
fn key_without_a_value_is_an_error() {
    for (text, told) in [
        ("limits:\n", "1:1: limits: it has no value: write one, or remove the key"),
        ("name: x\ncalls:\n", "2:1: calls: it has no value: write one, or remove the key"),
        ("calls:\n  a:\n", "2:3: calls.a: it has no value: write one, or remove the key"),
        ("calls: {a: {access: scoped, params: [~]}}", "1:38: calls.a.params[0]: it has no value"),
    ] {
        let error = error(text);
        assert!(error.starts_with(&format!("a/f.yaml:{told}")), "{error}");
    }
}

#[test]
fn valid_file_is_read() {
    let file: File = read("calls: {a: {access: scoped, params: [1]}}", Path::new("f.yaml")).unwrap();
    assert_eq!((&file.calls["a"].access, file.calls["a"].params.as_slice()), (&Access::Scoped, [1].as_slice()));
}
