//! `distillery check` and `distillery serve`: both report the same, and a check changes nothing.

use distillery_tests::{
    Guest, Server,
    program::{failed, output, printed, text},
    server::Builder,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Returns the output of `check`, and whether it succeeded.
fn check(builder: &Builder) -> (bool, String) {
    let output = builder.run(&["check"], "");
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn inside(builder: &Builder, name: &str) -> String {
    builder.directory().join(name).to_str().expect("a path of text").to_owned()
}

#[tokio::test]
async fn check_and_serve_refuse_the_same_configurations() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).expect("an address");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let tls = |builder: Builder, certificate: &str, key: &str| {
        let files = [inside(&builder, certificate), inside(&builder, key)];
        builder.set("http.tls_certificate", files[0].as_str()).set("http.tls_key", files[1].as_str())
    };
    let new = Server::builder;
    let certificate = include_str!("../../src/certificates/one.pem");
    let cases = [
        ("cannot set up TLS", tls(new(), "none.pem", "none.key")),
        ("cannot set up TLS", tls(new().file("a.pem", "no certificate"), "a.pem", "a.pem")),
        ("cannot set up TLS", tls(new().file("a.pem", certificate), "a.pem", "a.pem")),
        ("are on the same port", new().set("http.listen", free.as_str()).set("ops.listen", free.as_str())),
        (taken.0.as_str(), new().set("http.listen", taken.0.as_str())),
        ("ops.listen", new().set("ops.listen", taken.0.as_str())),
        ("set `data` in distillery.yaml", new().file("data", "a file is in the way")),
        ("set `cache` in distillery.yaml", new().file("cached", "a file").set("cache", "cached/deep")),
        ("plugins.directory", new().set("plugins.directory", "none")),
        ("plugins.keys", new().set("plugins.keys", json!(["none.pub"]))),
        ("is damaged or no database", new().file("data/distillery.db", "no database at all".repeat(1000))),
    ];
    for (part, builder) in cases {
        let (right, checked) = check(&builder);
        assert!(!right && checked.contains(part), "{part}: {checked}");
        assert!(checked.ends_with("1 problem\n"), "{part}: {checked}");
        let served = failed(&output(&mut builder.command()));
        assert!(served.contains(part), "{part}: {served}");
    }
}

/// Returns everything below a directory, with its owner, size and time.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u64, i64)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        // The harness rewrites the file for each command.
        if path.ends_with("distillery.yaml") {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        }
        found.insert(path, (metadata.uid(), metadata.size(), metadata.mtime_nsec()));
    }
    found
}

#[tokio::test]
async fn check_leaves_nothing_behind() {
    let grant =
        json!({"args": {"mounts": {"m": {"path": "mounted/deep", "write": true, "create": true}}, "scratch": "1MiB"}});
    let manifest =
        "calls: {args: {access: public}}\ncapabilities: {mounts: [{name: m, at: /m, write: true}], scratch: 1MiB}";
    let builder = Server::builder().set("plugins.grants", grant).set("cache", "data/cache");
    let builder = builder.plugin("args", Guest::component("args"), manifest);
    builder.run(&["config"], "");
    let before = tree(builder.directory());
    let (right, said) = check(&builder);
    assert!(right && said.contains("plugin args: "), "{said}");
    let args = inside(&builder, "plugins/args");
    let said = printed(&builder.run(&["check", &args], ""));
    assert!(said.contains("call: args"), "{said}");
    assert_eq!(tree(builder.directory()), before);

    // Also beside the remains of a server.
    let mut server = builder.start().await;
    server.terminate();
    server.wait().await;
    // Reading the latest writes changes the time of the index.
    let files = |server: &Server| -> Vec<_> {
        tree(server.directory()).into_iter().map(|(path, (owner, size, _))| (path, owner, size)).collect()
    };
    let before = files(&server);
    printed(&server.run(&["check"]));
    assert_eq!(files(&server), before);
    server.restart().await;
    let before = files(&server);
    let said = printed(&server.run(&["check"]));
    assert!(said.contains("database: intact"), "{said}");
    assert_eq!(files(&server), before);
}

#[tokio::test]
async fn check_tells_its_own_server_from_a_taken_address() {
    let mut server = Server::builder().start().await;
    let own = server.address().to_string();
    server.reconfigure("http.listen", own.as_str());
    let said = printed(&server.run(&["check"]));
    assert!(
        said.contains(&format!("listening: {own} is in use by the running server of this configuration")),
        "{said}"
    );
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    server.reconfigure("http.listen", address.as_str());
    let output = server.run(&["check"]);
    let said = text(&output.stdout);
    assert!(!output.status.success() && said.contains(&format!("cannot listen on {address}")), "{said}");
}
