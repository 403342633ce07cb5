use super::*;
use crate::form;
use serde_json::json;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/instances/templates");

fn shipped() -> Templates {
    Templates::open(SHIPPED)
}

fn system(value: serde_json::Value) -> form::System {
    value.as_object().unwrap().clone()
}

#[test]
fn shipped_templates_have_the_flavors_of_the_original() {
    for (said, template, flavor) in [
        (None, "drupal", "Drupal 11"),
        (Some(""), "drupal", "Drupal 11"),
        (Some("Drupal 10"), "drupal", "Drupal 10"),
        (Some("drupal-11"), "drupal", "Drupal 11"),
        (Some("Drupal 11 + WissKI Dev"), "drupal", "Drupal 11 + WissKI Dev"),
        (Some("static"), "static", "Static"),
    ] {
        let (chosen, found) = shipped().choose(said).unwrap();
        assert_eq!((chosen.name.as_str(), found.name.as_str()), (template, flavor), "{said:?}");
    }
    let error = shipped().choose(Some("Drupal 6")).unwrap_err().to_string();
    assert!(error.starts_with("unknown Flavor \"Drupal 6\": choose one of Drupal 11, Drupal 10, "), "{error}");
}

#[test]
fn params_are_those_of_the_template_and_others_are_named() {
    let (template, _) = shipped().choose(None).unwrap();
    let sent = json!({ "PHP": "Default (8.1)", "OpCacheDevelopment": true, "IIPServer": false });
    let (params, ignored) = template.params(system(sent)).unwrap();
    assert_eq!(ignored, ["System.IIPServer"]);
    let values = template.of_params(&params).unwrap();
    assert_eq!((values["PHP"].as_str(), values["OPCACHE_REVALIDATE"].as_str()), ("8.3", "0"));
    let error = template.params(system(json!({ "PHP": "5.6" }))).unwrap_err();
    assert_eq!(format!("{error:#}"), "PHP: is \"5.6\": choose one of 8.3, 8.4, Default");
    let error = template.params(system(json!({ "ContentSecurityPolicy": "x\nROOT=1" }))).unwrap_err();
    assert_eq!(format!("{error:#}"), "ContentSecurityPolicy: contains '\\n', which is not allowed: remove it");
}

#[test]
fn services_and_dumps_depend_on_the_profiles() {
    let (template, _) = shipped().choose(None).unwrap();
    let names = |profiles| {
        let services = services(&template.directory, profiles).unwrap();
        let dumps = template.dumps(&services).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        (services.into_iter().collect::<Vec<_>>().join(" "), dumps.join(" "))
    };
    assert_eq!(names(""), ("database web".to_owned(), "database.sql".to_owned()));
    assert_eq!(names("triplestore"), ("database triplestore web".to_owned(), "database.sql triples.nq".to_owned()));
}

#[test]
fn invalid_template_names_the_mistake() {
    let directory = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        fs::create_dir_all(directory.path().join("mine")).unwrap();
        fs::write(directory.path().join("mine").join(FILE), text).unwrap();
        format!("{:#}", Templates::open(directory.path()).read("mine").unwrap_err())
    };
    for (text, told) in [
        ("version: 1", "missing field `flavors`"),
        ("{version: 1, flavors: []}", "flavors is empty"),
        ("{version: 1, flavors: [{name: A}], odd: 1}", "unknown field `odd`"),
        ("{version: 1, flavors: [{name: A}], secrets: [\"a b\"]}", "\"a b\" is not the name of a variable"),
        ("{version: 1, flavors: [{name: A}], values: {A: \"$x\"}}", "contains '$'"),
        ("{version: 1, flavors: [{name: A}], once: [../other]}", "\"../other\" leads out of the instance"),
        ("{version: 1, flavors: [{name: A}], ports: 9-1}", "write a range such as"),
        ("{version: 1, flavors: [{name: A}], ready: soon}", "is not a time such as"),
    ] {
        let error = read(text);
        assert!(error.contains(told), "{text}: {error}");
    }
    assert!(Templates::open(directory.path()).read("../mine").is_err());
}
