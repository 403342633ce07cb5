//! Rebuilds and updates, which bring a changed template to existing instances.

use super::*;
use crate::action::{rebuild::rebuild, update::update};

/// Copies the shipped template, so that a test can change it.
fn templates() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &to.join(entry.file_name())),
                false => _ = fs::copy(entry.path(), to.join(entry.file_name())).unwrap(),
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    copy(Path::new(TEMPLATES), directory.path());
    directory
}

fn replace(file: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(old), "{text}");
    fs::write(file, text.replace(old, new)).unwrap();
}

#[test]
fn rebuild_replaces_only_files_of_the_template() {
    let bench = bench();
    bench.provision("coins");
    let (compose, env) = (bench.read("coins/compose.yaml"), bench.read("coins/.env"));
    fs::write(bench.at("coins/compose.yaml"), "changed").unwrap();
    fs::write(bench.at("coins/settings/php.ini"), "mine").unwrap();
    fs::write(bench.at("coins/data/files/a"), "mine").unwrap();
    let mut host = bench.host();
    rebuild(&bench.mount, &mut host, &coins(), None).unwrap();
    assert_eq!((bench.read("coins/compose.yaml"), bench.read("coins/.env")), (compose, env.clone()));
    assert_eq!(
        (bench.read("coins/settings/php.ini"), bench.read("coins/data/files/a")),
        ("mine".into(), "mine".into())
    );
    assert_eq!(host.value.unwrap()["state"], "running");
    let system = r#"{"PHP": "8.4", "Odd": 1, "ContentSecurityPolicy": "img-src *"}"#;
    let mut host = bench.host();
    rebuild(&bench.mount, &mut host, &coins(), Some(system)).unwrap();
    assert_eq!(host.lines[0], "ignored: System.Odd");
    assert_eq!(
        bench.read("coins/.env"),
        env.replace("img-src 'self'", "img-src *").replace("PHP=\"8.3\"", "PHP=\"8.4\"")
    );
    let bad = r#"{"ContentSecurityPolicy": "\"\nDATABASE_PASSWORD=\"x"}"#;
    assert!(rebuild(&bench.mount, &mut bench.host(), &coins(), Some(bad)).is_err());
    assert!(bench.read("coins/.env").contains("img-src *"));

    // A stopped instance stays stopped.
    bench.stop("coins");
    let mut host = bench.host();
    rebuild(&bench.mount, &mut host, &coins(), None).unwrap();
    assert_eq!((&host.value.unwrap()["state"], bench.left()), (&"stopped".into(), vec!["volume coins".to_owned()]));
    let error = rebuild(&bench.mount, &mut bench.host(), &"unknown".parse().unwrap(), None).unwrap_err().to_string();
    assert_eq!(error, "there is no instance unknown");
}

#[test]
fn update_reaches_the_newest_template_and_keeps_data() {
    let templates = templates();
    let file = templates.path().join("drupal/template.yaml");
    let bench = bench_with(templates.path());
    bench.provision("coins");
    let env = bench.read("coins/.env");
    fs::write(bench.at("coins/settings/php.ini"), "mine").unwrap();
    replace(&file, "version: 2", "version: 3");
    replace(&file, "secrets: [", "secrets: [NEW_SECRET, ");
    fs::write(templates.path().join("drupal/compose.yaml"), "services: {web: {image: new}}").unwrap();
    let error = rebuild(&bench.mount, &mut bench.host(), &coins(), None).unwrap_err().to_string();
    assert!(error.ends_with("update the instance first"), "{error}");
    let mut host = bench.host();
    update(&bench.mount, &mut host, &coins()).unwrap();
    assert_eq!(host.lines[0], "updated the files of coins from version 2 of its template to 3");
    assert_eq!(
        (bench.read("coins/compose.yaml").as_str(), bench.read("coins/settings/php.ini").as_str()),
        ("services: {web: {image: new}}", "mine")
    );
    let updated = bench.read("coins/.env");
    assert!(updated.starts_with(&env) && updated.contains("\nNEW_SECRET=\""), "{updated}");
    assert_eq!(bench.left(), ["container coins_web", "network coins", "volume coins"]);
    let mut host = bench.host();
    update(&bench.mount, &mut host, &coins()).unwrap();
    assert_eq!(host.lines.last().unwrap(), "coins has version 3 of its template");
    assert_eq!(bench.read("coins/.env"), updated);
    replace(&file, "version: 3", "version: 1");
    assert!(update(&bench.mount, &mut bench.host(), &coins()).is_err());
}

#[test]
fn update_ended_at_any_point_is_repeated() {
    let templates = templates();
    let file = templates.path().join("drupal/template.yaml");
    let points = with_every_fate(Fate::DiesAt, |fate| {
        let bench = bench_with(templates.path());
        bench.provision("coins");
        replace(&file, "version: 2", "version: 3");
        let mut host = bench.fated(fate);
        let died = dies(|| update(&bench.mount, &mut host, &coins()));
        bench.clock.set(bench.clock.get() + 60_000);
        update(&bench.mount, &mut bench.host(), &coins()).unwrap();
        assert!(bench.read("coins/instance.json").contains("\"version\": 3"), "{fate:?}");
        assert_eq!(bench.left(), STACK, "{fate:?}");
        replace(&file, "version: 3", "version: 2");
        died
    });
    assert!(points > 20, "{points}");
}
