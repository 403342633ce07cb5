use super::*;
use crate::manifest::Manifest;
use std::os::unix::fs::PermissionsExt;

fn wish(capabilities: &str) -> Capabilities {
    let manifest = format!("capabilities: {capabilities}");
    Manifest::read(&manifest, Path::new("plugin.yaml"), &"echo".parse().unwrap()).unwrap().capabilities
}

struct Bench {
    directory: tempfile::TempDir,
    grants: OperatorGrants,
}

/// Returns an operator with one grant of each kind for `echo`.
fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("inside")).unwrap();
    fs::write(at("key"), "swordfish\r\n").unwrap();
    let mount = |path: &str, write| config::Mount { path: at(path), write, create: path == "made" };
    let grant = Grant {
        commands: BTreeMap::new(),
        mounts: [("in", "inside", false), ("out", "inside", true), ("gone", "gone", true), ("new", "made", true)]
            .map(|(name, path, write)| (name.to_owned(), mount(path, write)))
            .into(),
        http: vec!["https://api.example.org".to_owned(), "http://10.0.0.5:9000".to_owned()],
        env: vec!["LANG".to_owned(), "UNSET".to_owned()],
        secrets: [
            ("KEY", SecretSource::File(at("key"))),
            ("USER", SecretSource::Env("API_USER".to_owned())),
            ("LOST", SecretSource::File(at("lost"))),
            ("EMPTY", SecretSource::Env("NOBODY".to_owned())),
        ]
        .map(|(name, secret)| (name.to_owned(), secret))
        .into(),
        systems: Some(SystemsGrant::Read),
        scratch: Some(Size::mib(16)),
    };
    let environment = [("LANG", "eo"), ("API_USER", "me"), ("OTHER", "not granted")];
    let grants = OperatorGrants {
        plugins: [("echo".to_owned(), grant)].into(),
        environment: environment.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).into(),
        scratch: Arc::new(ScratchRoot::new(at("scratch"))),
        files: Arc::default(),
        systems: None,
        commands: Arc::default(),
        look_only: false,
    };
    Bench { directory, grants }
}

impl Bench {
    fn refused(&self, capabilities: &str) -> String {
        let error = self.grants.meet("echo", &wish(capabilities)).unwrap_err().to_string();
        error.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn plugin_gets_exactly_its_requests() {
    let bench = bench();
    let asked = "{mounts: [{name: in, at: /in}], http: ['https://API.example.org:443'], env: [LANG, UNSET], secrets: \
                     [KEY, USER], scratch: 1MiB}";
    let (granted, grants) = bench.grants.meet("echo", &wish(asked)).unwrap();
    let env: Vec<_> = grants.env.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(env, [("LANG", "eo"), ("KEY", "swordfish"), ("USER", "me")]);
    assert_eq!((grants.mounts.len(), grants.http.len(), grants.scratch.is_some()), (1, 1, true));
    assert_eq!(
        granted.to_string(),
        "read the mount in at /in, send requests to https://API.example.org:443, read the variable LANG, read the \
             variable UNSET, read the secret KEY, read the secret USER, use 1MiB of scratch space"
    );

    let (granted, grants) = bench.grants.meet("echo", &wish("{}")).unwrap();
    assert_eq!(granted, Granted::default());
    assert!(grants.env.is_empty() && grants.mounts.is_empty() && grants.http.is_empty() && grants.scratch.is_none());
}

#[test]
fn displayed_grants_contain_no_value_and_no_path() {
    let bench = bench();
    let asked = "{mounts: [{name: out, at: /out, write: true}], env: [LANG], secrets: [KEY, USER], scratch: 1MiB}";
    let (granted, grants) = bench.grants.meet("echo", &wish(asked)).unwrap();
    assert_eq!(
        serde_json::to_value(&granted).unwrap(),
        serde_json::json!({
            "mounts": [{"name": "out", "at": "/out", "write": true}],
            "http": [],
            "env": ["LANG"],
            "secrets": ["KEY", "USER"],
            "scratch": "1MiB", "systems": null, "commands": [],
        })
    );
    let shown = format!("{granted:?} {grants:?} {:?}", bench.grants);
    assert!(!shown.contains("swordfish") && !shown.contains("eo\"") && !shown.contains("\"me\""), "{shown}");
}

#[test]
fn each_missing_grant_is_named() {
    let bench = bench();
    assert_eq!(
        bench.refused(
            "{mounts: [{name: in, at: /in, write: true}, {name: other, at: /o}], http: ['http://api.example.org', \
                 'https://api.example.org:444', 'http://10.0.0.5'], env: [HOME], secrets: [OTHER], scratch: 17MiB}"
        ),
        "not granted: the mount in at /in to write (it is granted to read), the mount other at /o to read, http to \
             http://api.example.org, http to https://api.example.org:444, http to http://10.0.0.5, the environment \
             variable HOME, the secret OTHER, 17MiB of scratch space (16MiB is granted): grant it in plugins.grants.echo \
             in distillery.yaml"
    );
    let other = bench.grants.meet("other", &wish("{env: [LANG]}")).unwrap_err().to_string();
    assert_eq!(
        other,
        "not granted: the environment variable LANG: grant it in plugins.grants.other in distillery.yaml"
    );
    assert_eq!(
        bench.refused("{systems: write}"),
        "not granted: the systems to write (they are granted to read): grant it in plugins.grants.echo in \
             distillery.yaml"
    );
    let (granted, grants) = bench.grants.meet("echo", &wish("{systems: read}")).unwrap();
    assert_eq!((granted.to_string(), grants.systems.unwrap().write), ("read the systems".to_owned(), false));
}

#[test]
fn created_mount_is_accessible_to_the_server_only() {
    let bench = bench();
    let made = bench.directory.path().join("made");
    for _ in 0..2 {
        assert!(bench.grants.meet("echo", &wish("{mounts: [{name: new, at: /n, write: true}]}")).is_ok());
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(made.join("file"), "").unwrap();
    }
}

#[test]
fn missing_granted_resource_fails_the_load() {
    let bench = bench();
    assert_eq!(
        bench.refused("{mounts: [{name: gone, at: /g}]}"),
        "the mount gone: gone: No such file or directory (os error 2): make the directory, or change \
             plugins.grants.echo.mounts.gone in distillery.yaml"
    );
    assert_eq!(
        bench.refused("{secrets: [LOST]}"),
        "the secret LOST: lost: No such file or directory (os error 2): put it there, or change \
             plugins.grants.echo.secrets.LOST in distillery.yaml"
    );
    assert_eq!(
        bench.refused("{secrets: [EMPTY]}"),
        "the secret EMPTY: the variable NOBODY is not set in the environment of the server: put it there, or change \
             plugins.grants.echo.secrets.EMPTY in distillery.yaml"
    );
    for (content, told) in [
        (b"sword\xfffish".to_vec(), "not UTF-8 text"),
        (b"sword\0fish".to_vec(), "a zero byte"),
        (vec![b'x'; 70_000], "larger than 64KiB"),
    ] {
        fs::write(bench.directory.path().join("key"), content).unwrap();
        let refused = bench.refused("{secrets: [KEY]}");
        assert!(refused.contains(told) && !refused.contains("fish"), "{refused}");
    }
    fs::write(bench.directory.path().join("scratch"), "a file").unwrap();
    assert!(bench.refused("{scratch: 1MiB}").starts_with("no place for its scratch space: "));
}
