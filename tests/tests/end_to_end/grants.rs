//! Access of plugins outside of their sandbox: only capabilities that the manifest requests and the operator grants.

use bytes::Bytes;
use distillery_tests::{Guest, Server, patiently, program::output, server::Builder};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
};

/// The three kinds of guests that perform requested file operations.
const KINDS: [&str; 3] = ["module", "component", "component3"];

fn guest(kind: &str) -> Guest {
    match kind {
        "module" => Guest::module("files"),
        "component" => Guest::component("files"),
        _ => Guest::component3("touches"),
    }
}

fn manifest(name: &str, capabilities: &str) -> String {
    format!("calls: {{{name}: {{access: public}}}}\ncapabilities: {capabilities}\n")
}

/// Adds a plugin of each kind that requests `capabilities` and is granted `grant`.
fn of_each_kind(builder: Builder, capabilities: &str, grant: &Value) -> Builder {
    let builder =
        KINDS.into_iter().fold(builder, |it, kind| it.plugin(kind, guest(kind), &manifest(kind, capabilities)));
    let grants: serde_json::Map<_, _> = KINDS.into_iter().map(|kind| (kind.to_owned(), grant.clone())).collect();
    builder.set("plugins.grants", grants)
}

/// Returns the output of the guest for each of `todo`.
async fn done(server: &Server, call: &str, todo: &[&str]) -> Vec<String> {
    let lines = server.call(call, todo).await.finish().await.success();
    assert_eq!(lines.len(), todo.len(), "{call}: {lines:?}");
    lines
}

#[track_caller]
fn all_refused(call: &str, todo: &[&str], lines: &[String]) {
    let refusals = [
        "PermissionDenied",
        "NotFound",
        "NotPermitted",
        "NoEntry",
        "Access",
        "Loop",
        "FilesystemLoop",
        "ReadOnly",
        "CrossDevice",
        "CrossesDevices",
        "Invalid",
    ];
    for (todo, line) in todo.iter().zip(lines) {
        assert!(refusals.iter().any(|it| line.contains(it)), "{call}: {todo}: {line}");
    }
}

/// Returns the error of a plugin that did not load.
async fn not_loaded(server: &Server, plugin: &str) -> String {
    let told =
        |line: &distillery_tests::log::Line| line.message() == "plugin not loaded" && line.field("plugin") == plugin;
    server.log().line("a word about the plugin", told).await.field("error")
}

#[tokio::test]
async fn plugin_without_its_grants_does_not_load() {
    let builder = Server::builder();
    let inside = builder.directory().join("inside");
    fs::create_dir(&inside).unwrap();
    let asks = "{mounts: [{name: in, at: /in, write: true}], http: ['https://api.example.org'], env: [LANG], secrets: \
                [KEY], scratch: 2MiB}";
    let server = builder
        .plugin("greedy", Guest::component("env"), &manifest("greedy", asks))
        .plugin("lost", Guest::component("env"), &manifest("lost", "{mounts: [{name: in, at: /in}]}"))
        .plugin("modest", Guest::component("env"), &manifest("modest", "{env: [LANG]}"))
        .set(
            "plugins.grants",
            json!({
                "greedy": {
                    "mounts": {"in": {"path": inside}},
                    "http": ["https://api.example.org:444"],
                    "scratch": "1MiB",
                },
                "lost": {"mounts": {"in": {"path": "gone"}}},
                "modest": {"env": ["LANG", "HOME"], "scratch": "1GiB"},
            }),
        )
        .start()
        .await;
    assert!(not_loaded(&server, "greedy").await.ends_with(
        "plugins/greedy: not granted: the mount in at /in to write (it is granted to read), http to \
         https://api.example.org, the environment variable LANG, the secret KEY, 2MiB of scratch space (1MiB is \
         granted): grant it in plugins.grants.greedy in distillery.yaml"
    ));
    let lost = not_loaded(&server, "lost").await;
    assert!(lost.contains("the mount in: ") && lost.contains("gone: No such file or directory"), "{lost}");
    // A grant that the manifest does not request has no effect.
    let lines = server.call("modest", &[]).await.finish().await.success();
    assert!(!lines.iter().any(|line| line.starts_with("HOME=")), "{lines:?}");
}

/// Creates two granted directories, one of them read-only, among others that are not granted.
fn directories(builder: &Builder) -> (PathBuf, Value) {
    let root = builder.directory().join("host");
    for (path, text) in [("read/file", "from the host"), ("write/file", "to be changed"), ("secret/file", "hidden")] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let grant = json!({"mounts": {
        "r": {"path": root.join("read")},
        "w": {"path": root.join("write"), "write": true},
    }});
    (root, grant)
}

const MOUNTS: &str = "{mounts: [{name: r, at: /r}, {name: w, at: /w, write: true}]}";

#[tokio::test]
async fn mount_allows_only_the_granted_access() {
    let builder = Server::builder();
    let (root, grant) = directories(&builder);
    let server = of_each_kind(builder, MOUNTS, &grant).start().await;
    for kind in KINDS {
        let new = format!("write /w/{kind} 5");
        assert_eq!(done(&server, kind, &["read /r/file", &new]).await, ["from the host", "ok"], "{kind}");
        assert_eq!(fs::read_to_string(root.join("write").join(kind)).unwrap(), "xxxxx", "{kind}");
        let todo = [
            "write /r/new 1",
            "write /r/file 1",
            "append /r/file 1",
            "grow /r/file 0",
            "mkdir /r/new",
            "remove /r/file",
            "rename /r/file /r/other",
            "rename /r/file /w/stolen",
            "rename /w/file /r/given",
            "link /r/file /w/linked",
            "link /w/file /r/linked",
        ];
        all_refused(kind, &todo, &done(&server, kind, &todo).await);
    }
    assert_eq!(fs::read_dir(root.join("read")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(root.join("read/file")).unwrap(), "from the host");
}

#[tokio::test]
async fn no_path_leads_out_of_a_mount() {
    let builder = Server::builder();
    let (root, grant) = directories(&builder);
    for mount in ["read", "write"] {
        let at = |name: &str| root.join(mount).join(name);
        symlink(root.join("secret/file"), at("absolute")).unwrap();
        symlink("../secret/file", at("relative")).unwrap();
        symlink("../secret", at("directory")).unwrap();
        symlink("directory/file", at("by-the-way")).unwrap();
        symlink("/proc/self/root/etc/passwd", at("magic")).unwrap();
        symlink("circle", at("circle")).unwrap();
    }
    let server = of_each_kind(builder, MOUNTS, &grant).start().await;
    let mut todo: Vec<String> = Vec::new();
    for path in [
        "/r/../secret/file",
        "/r/../../../../../../etc/passwd",
        "/r/absolute",
        "/r/relative",
        "/r/directory/file",
        "/r/by-the-way",
        "/r/magic",
        "/r/circle",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/root/etc/passwd",
    ] {
        todo.push(format!("read {path}"));
    }
    for path in ["/w/../secret/file", "/w/absolute", "/w/relative", "/w/directory/new", "/w/by-the-way", "/w/magic"] {
        todo.extend([format!("write {path} 1"), format!("append {path} 1"), format!("grow {path} 0")]);
    }
    for to in ["/w/../out", "/w/directory/out", "/out"] {
        todo.extend([format!("rename /w/file {to}"), format!("link /w/file {to}"), format!("mkdir {to}")]);
    }
    todo.extend(["remove /w/directory/file", "rename /w/directory/file /w/stolen"].map(str::to_owned));
    let todo: Vec<&str> = todo.iter().map(String::as_str).collect();
    for kind in KINDS {
        all_refused(kind, &todo, &done(&server, kind, &todo).await);
    }
    // Links made by the guest lead no further.
    let links = ["symlink ../secret/file /w/mine", "symlink ../secret /w/my-directory"];
    assert_eq!(done(&server, "component3", &links).await, ["ok", "ok"]);
    for kind in KINDS {
        let todo = ["read /w/mine", "write /w/mine 1", "read /w/my-directory/file", "write /w/my-directory/new 1"];
        all_refused(kind, &todo, &done(&server, kind, &todo).await);
    }
    assert_eq!(fs::read_to_string(root.join("secret/file")).unwrap(), "hidden");
    assert_eq!(fs::read_dir(root.join("secret")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 3);
}

#[tokio::test]
async fn mount_stays_the_directory_opened_at_load() {
    let builder = Server::builder();
    let (root, grant) = directories(&builder);
    let server = of_each_kind(builder, MOUNTS, &grant).start().await;
    fs::rename(root.join("read"), root.join("moved")).unwrap();
    symlink(root.join("secret"), root.join("read")).unwrap();
    for kind in KINDS {
        assert_eq!(done(&server, kind, &["read /r/file"]).await, ["from the host"], "{kind}");
    }
}

#[tokio::test]
async fn variables_and_secrets_reach_only_the_guest() {
    let builder = Server::builder().file("key", "swordfish\n");
    let asks = "{env: [COLOUR, UNSET], secrets: [KEY, TOKEN]}";
    let builder = builder
        .plugin("told", Guest::component("env"), &manifest("told", asks))
        .plugin("module", Guest::module("env"), &manifest("module", asks))
        .guest_as("untold", Guest::component("env"))
        .set("log.level", "trace");
    let grant = json!({
        "env": ["COLOUR", "UNSET"],
        "secrets": {"KEY": {"file": builder.directory().join("key")}, "TOKEN": {"env": "THE_TOKEN"}},
    });
    let builder = builder.set("plugins.grants", json!({"told": grant, "module": grant}));
    let checked = check(&builder);
    let server = builder.start_with([("COLOUR", "blue"), ("THE_TOKEN", "halibut"), ("OTHER", "none")]).await;
    for call in ["told", "module"] {
        let lines = server.call(call, &[]).await.finish().await.success();
        let own: Vec<_> = lines.iter().filter(|line| !line.starts_with("DISTILLERY_")).collect();
        assert_eq!(own, ["COLOUR=blue", "KEY=swordfish", "TOKEN=halibut"]);
    }
    let lines = server.call("untold", &[]).await.finish().await.success();
    assert!(lines.iter().all(|line| line.starts_with("DISTILLERY_")), "{lines:?}");
    server.process_ended("untold").await;
    let log = format!("{:?}", server.log().lines());
    assert!(!log.contains("swordfish") && !log.contains("halibut"));
    assert!(checked.contains("the variable THE_TOKEN is not set") && !checked.contains("swordfish"), "{checked}");
}

/// Returns the output of `distillery check`.
fn check(builder: &Builder) -> String {
    let serve = builder.command();
    let arguments = serve.get_args().map(|it| if it == "serve" { "check".as_ref() } else { it });
    String::from_utf8(output(Command::new(serve.get_program()).args(arguments)).stdout).expect("text")
}

#[tokio::test]
async fn check_prints_the_capabilities_of_a_plugin() {
    let builder = Server::builder();
    let (_, grant) = directories(&builder);
    let printed = check(&of_each_kind(builder, MOUNTS, &grant));
    assert!(printed.contains("\n  may read the mount r at /r, write the mount w at /w\n"), "{printed}");
}

/// A server on this machine for requests of guests. It reports each request that arrives.
struct Site {
    address: SocketAddr,
    asked: mpsc::UnboundedReceiver<String>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let tell = tell.clone();
                let answer = service_fn(move |request| answer(request, tell.clone()));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                // Some tests disconnect in the middle of a request.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }
}

async fn answer(
    request: Request<Incoming>,
    tell: mpsc::UnboundedSender<String>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let host = request.headers()["host"].to_str().unwrap_or_default().to_owned();
    // The test can have ended already.
    _ = tell.send(path.clone());
    let body = |text: String| Full::new(Bytes::from(text));
    let answer = match (path.as_str(), request.uri().query()) {
        ("/to", Some(there)) => Response::builder().status(302).header("location", there).body(body(String::new())),
        ("/silent", _) => std::future::pending().await,
        ("/large", _) => Response::builder().body(body("x".repeat(500_000))),
        ("/count", _) => {
            let count = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
            Response::builder().body(body(format!("{count} bytes")))
        }
        _ => Response::builder().body(body(format!("hello {host}"))),
    };
    Ok(answer.expect("an answer"))
}

/// Plugins of both kinds that can send requests, granted these origins.
fn fetchers(origins: &[&str]) -> Builder {
    let asks = json!({ "http": origins }).to_string();
    Server::builder()
        .plugin("component", Guest::component("fetch"), &manifest("component", &asks))
        .plugin("component3", Guest::component3("touches"), &manifest("component3", &asks))
        .set("plugins.grants", json!({"component": {"http": origins}, "component3": {"http": origins}}))
}

const FETCHERS: [(&str, &str); 2] = [("component", ""), ("component3", "get ")];

#[tokio::test]
async fn requests_reach_only_granted_origins() {
    let (site, mut other) = (Site::start().await, Site::start().await);
    let server = fetchers(&[&site.url("")]).start().await;
    let port = site.address.port();
    for (call, get) in FETCHERS {
        let asked = [site.url("/x"), site.url("/large")].map(|url| format!("{get}{url}"));
        let lines = done(&server, call, &asked.each_ref().map(String::as_str)).await;
        assert_eq!(lines[0], format!("200 hello localhost:{port}"), "{call}");
        assert_eq!(lines[1].len(), "200 ".len() + 500_000, "{call}");
        let denied = [
            other.url("/"),
            format!("https://localhost:{port}/"),
            format!("http://127.0.0.1:{port}/"),
            format!("http://[::1]:{port}/"),
            format!("http://localhost.:{port}/"),
            "http://169.254.169.254/latest/meta-data".to_owned(),
            "https://example.org/".to_owned(),
        ]
        .map(|url| format!("{get}{url}"));
        for (url, line) in denied.iter().zip(done(&server, call, &denied.each_ref().map(String::as_str)).await) {
            assert!(line.contains("HttpRequestDenied"), "{call}: {url}: {line}");
        }
    }
    let posted = format!("post {} 300000", site.url("/count"));
    assert_eq!(done(&server, "component", &[&posted]).await, ["200 300000 bytes"]);
    assert!(other.asked.try_recv().is_err(), "the other site was asked");
}

#[tokio::test]
async fn redirect_is_checked_like_any_request() {
    let (site, mut other) = (Site::start().await, Site::start().await);
    let server = fetchers(&[&site.url("")]).start().await;
    let inside = format!("follow {}", site.url(&format!("/to?{}", site.url("/there"))));
    let outside = format!("follow {}", site.url(&format!("/to?{}", other.url("/there"))));
    let literal = format!("follow {}", site.url(&format!("/to?http://127.0.0.1:{}/there", other.address.port())));
    let lines = done(&server, "component", &[&inside, &outside, &literal]).await;
    assert!(lines[0].starts_with("200 hello "), "{lines:?}");
    assert!(lines[1..].iter().all(|line| line.contains("HttpRequestDenied")), "{lines:?}");
    // The host follows no redirect for the guest.
    let line = done(&server, "component3", &[&format!("get {}", site.url("/to?/there"))]).await.remove(0);
    assert!(line.starts_with("302"), "{line}");
    assert!(other.asked.try_recv().is_err(), "the other site was asked");
}

#[tokio::test]
async fn granted_name_that_resolves_to_this_machine_is_refused() {
    let mut site = Site::start().await;
    let port = site.address.port();
    // Valid names in a URL that resolvers read as 127.0.0.1.
    let names = [format!("http://127.1:{port}"), format!("http://2130706433:{port}")];
    let literal = format!("http://127.0.0.1:{port}");
    let server = fetchers(&[&names[0], &names[1], &literal]).start().await;
    for (call, get) in FETCHERS {
        for name in &names {
            let line = done(&server, call, &[&format!("{get}{name}/")]).await.remove(0);
            assert!(line.contains("DestinationIpProhibited"), "{call}: {name}: {line}");
        }
        assert!(site.asked.try_recv().is_err(), "the site was asked");
        let line = done(&server, call, &[&format!("{get}{literal}/")]).await.remove(0);
        assert_eq!(line, format!("200 hello 127.0.0.1:{port}"), "{call}");
        site.asked.try_recv().expect("the site was asked");
    }
}

#[tokio::test]
async fn failed_connection_is_an_error_in_the_guest() {
    let site = Site::start().await;
    // The socket reserves the address without listening, so no other program can use the address.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let gone = format!("http://localhost:{}", silent.local_addr().unwrap().port());
    let secure = format!("https://localhost:{}", site.address.port());
    let server = fetchers(&[&secure, &gone]).start().await;
    for (call, get) in FETCHERS {
        let todo = [format!("{get}{secure}/"), format!("{get}{gone}/")];
        let lines = done(&server, call, &todo.each_ref().map(String::as_str)).await;
        assert!(lines[0].contains("TlsProtocolError") && lines[1].contains("ConnectionRefused"), "{call}: {lines:?}");
    }
}

#[tokio::test]
async fn guest_without_http_grant_loads_and_is_denied() {
    let mut site = Site::start().await;
    let server = Server::builder()
        .guest_as("component", Guest::component("fetch"))
        .guest_as("component3", Guest::component3("touches"))
        .guest(Guest::component("dials"))
        .guest_as("dials.module", Guest::module("dials"))
        .start()
        .await;
    for (call, get) in FETCHERS {
        let line = done(&server, call, &[&format!("{get}{}", site.url("/"))]).await.remove(0);
        assert!(line.contains("HttpRequestDenied"), "{call}: {line}");
    }
    let address = site.address.to_string();
    for call in ["dials", "dials.module"] {
        let line = done(&server, call, &[&address]).await.remove(0);
        assert_ne!(line, "connected", "{call}");
    }
    assert!(site.asked.try_recv().is_err(), "the site was asked");
}

#[tokio::test]
async fn http_grant_opens_no_sockets() {
    let site = Site::start().await;
    let origins = [site.url("")];
    let server = Server::builder()
        .plugin("dials", Guest::component("dials"), &manifest("dials", &json!({ "http": origins }).to_string()))
        .set("plugins.grants", json!({"dials": {"http": origins}}))
        .start()
        .await;
    let address = site.address.to_string();
    assert_ne!(done(&server, "dials", &[&address]).await, ["connected"]);
}

#[tokio::test]
async fn cancel_ends_a_guest_that_waits_for_a_response() {
    let mut site = Site::start().await;
    let server = fetchers(&[&site.url("")]).grace(Duration::ZERO).start().await;
    for (call, get) in FETCHERS {
        let mut client = server.call(call, &[&format!("{get}{}", site.url("/silent"))]).await;
        assert_eq!(patiently("the request", site.asked.recv()).await.as_deref(), Some("/silent"));
        client.cancel().await;
        let failure = client.finish().await.failure();
        assert!(failure.starts_with("cancelled by the client"), "{call}: {failure}");
    }
}

#[tokio::test]
async fn headers_held_by_a_guest_are_bounded() {
    let server = fetchers(&["https://api.example.org"]).start().await;
    assert_eq!(done(&server, "component", &["fields 100"]).await, ["100 sets of fields"]);
    let before = server.peak_memory();
    assert!(!server.call("component", &["fields 100000"]).await.finish().await.failure().is_empty());
    let grown = server.peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes of the server's memory");
    assert_eq!(done(&server, "component", &["fields 100"]).await, ["100 sets of fields"]);
}

fn with_scratch(size: &str) -> Builder {
    let grant = json!({ "scratch": size });
    of_each_kind(Server::builder(), &format!("{{scratch: {size}}}"), &grant)
}

/// Returns everything in the private directories of a server.
fn left(data: &Path) -> Vec<PathBuf> {
    let below = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    below(&data.join("scratch")).iter().flat_map(|own| below(own)).collect()
}

fn is_full(line: &str) -> bool {
    // The C library of components maps every stream error of the host to EIO, without a kind.
    ["StorageFull", "InsufficientSpace", "Uncategorized"].iter().any(|it| line.contains(it))
}

#[tokio::test]
async fn scratch_space_holds_its_quota_and_no_more() {
    let server = with_scratch("1MiB").start().await;
    for kind in KINDS {
        let lines = done(&server, kind, &["write /tmp/a 1048576", "read /tmp/a", "append /tmp/b 0"]).await;
        assert_eq!((lines[0].as_str(), lines[1].len(), lines[2].as_str()), ("ok", 1 << 20, "ok"), "{kind}");
        for first in ["write /tmp/a 1048576", "append /tmp/a 1048576", "grow /tmp/a 1048576"] {
            let todo = [
                first,
                "append /tmp/a 1",
                "append /tmp/b 1",
                "write /tmp/b 1",
                "grow /tmp/a 1048577",
                "grow /tmp/b 1",
                "write /tmp/a 1048577",
                "grow /tmp/b 1099511627776",
            ];
            let lines = done(&server, kind, &todo).await;
            assert_eq!(lines[0], "ok", "{kind}");
            for (todo, line) in todo.iter().zip(&lines).skip(1) {
                assert!(is_full(line), "{kind}: {todo}: {line}");
            }
        }
        // Writes in place cost no space, and truncation frees space.
        let lines = done(
            &server,
            kind,
            &["write /tmp/a 900000", "write /tmp/a 900000", "grow /tmp/a 0", "write /tmp/b 900000"],
        )
        .await;
        assert_eq!(lines, ["ok"; 4], "{kind}");
    }
    for kind in ["module", "component"] {
        let lines =
            done(&server, kind, &["fill /tmp/a", "hole /tmp/b 5", "rewrite /tmp/a 1000000", "rewrite /tmp/a 1048576"])
                .await;
        assert!(lines[0].starts_with("1048576 then ") && is_full(&lines[0]), "{kind}: {lines:?}");
        assert!(is_full(&lines[1]), "{kind}: {lines:?}");
        assert_eq!(lines[2..], ["ok", "ok"], "{kind}");
        let lines = done(&server, kind, &["hole /tmp/a 1048575", "hole /tmp/b 1"]).await;
        assert_eq!((lines[0].as_str(), is_full(&lines[1])), ("ok", true), "{kind}: {lines:?}");
    }
}

#[tokio::test]
async fn deleted_file_frees_space_once_closed() {
    let server = with_scratch("1MiB").start().await;
    for kind in ["module", "component"] {
        let todo = [
            "write /tmp/a 1048576",
            "keep /tmp/a",
            "remove /tmp/a",
            "write /tmp/b 1",
            "again",
            "write /tmp/b 1",
            "release",
            "write /tmp/b 1048576",
        ];
        let lines = done(&server, kind, &todo).await;
        assert!(is_full(&lines[3]) && is_full(&lines[5]), "{kind}: {lines:?}");
        assert_eq!((lines[4].as_str(), lines[7].as_str()), ("1048576 bytes", "ok"), "{kind}");
    }
    let todo = ["write /tmp/a 1048576", "remove /tmp/a", "write /tmp/b 1048576", "write /tmp/c 1"];
    let lines = done(&server, "component3", &todo).await;
    assert!(lines[..3] == ["ok"; 3] && is_full(&lines[3]), "{lines:?}");
}

#[tokio::test]
async fn scratch_space_bounds_the_number_of_files() {
    let server = with_scratch("64KiB").start().await;
    for kind in ["module", "component"] {
        // The limit is one file for each 4 KiB, and 64 more; the directory counts as one.
        let lines =
            done(&server, kind, &["mkdir /tmp/d", "empty /tmp/d 1000", "mkdir /tmp/e", "link /tmp/d/1 /tmp/f"]).await;
        assert_eq!(lines[1], "79 then StorageFull", "{kind}");
        assert!(is_full(&lines[2]) && is_full(&lines[3]), "{kind}: {lines:?}");
    }
    let directories: Vec<String> = (0..81).map(|number| format!("mkdir /tmp/{number}")).collect();
    let todo: Vec<&str> =
        directories.iter().map(String::as_str).chain(["symlink x /tmp/y", "link /tmp/1 /tmp/z"]).collect();
    let lines = done(&server, "component3", &todo).await;
    assert!(lines[79] == "ok" && lines[80..].iter().all(|line| is_full(line)), "{lines:?}");
}

#[tokio::test]
async fn scratch_space_is_private_and_removed_with_its_process() {
    let builder = with_scratch("1MiB");
    let data = builder.directory().join("data");
    let server = builder.start().await;
    let mut one = server.call("component", &["write /tmp/a 10", "wait"]).await;
    assert_eq!([one.line().await, one.line().await], ["ok", "waiting"]);
    assert_eq!(left(&data).len(), 1);
    assert_eq!(done(&server, "module", &["list /tmp"]).await, [""]);
    one.cancel().await;
    one.finish().await.failure();
    gone(&data).await;
}

/// Waits until the directory is empty. The removal happens after the result without a notification; each further
/// process is a chance to look again.
async fn gone(data: &Path) {
    patiently("the end of the private directories", async {
        while !left(data).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn scratch_of_a_killed_server_is_removed_at_the_next_start() {
    let builder = with_scratch("1MiB");
    let data = builder.directory().join("data");
    let mut server = builder.start().await;
    let mut client = server.call("component", &["write /tmp/a 10", "wait"]).await;
    assert_eq!([client.line().await, client.line().await], ["ok", "waiting"]);
    server.signal(rustix::process::Signal::KILL);
    server.wait().await;
    assert_eq!(left(&data).len(), 1);
    server.restart().await;
    assert!(left(&data).is_empty());
    // The directory of the running server.
    assert_eq!(fs::read_dir(data.join("scratch")).unwrap().count(), 1);
}

#[tokio::test]
async fn stopped_server_leaves_no_scratch_space() {
    let builder = with_scratch("1MiB");
    let scratch = builder.directory().join("data/scratch");
    let server = builder.grace(Duration::ZERO).start().await;
    let mut client = server.call("module", &["write /tmp/a 10", "wait"]).await;
    assert_eq!([client.line().await, client.line().await], ["ok", "waiting"]);
    server.terminate();
    client.finish().await.failure();
    assert!(server.wait().await.success());
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
}

#[tokio::test]
async fn scratch_space_and_mounts_are_separate_file_systems() {
    let builder = Server::builder();
    let (root, mut grant) = directories(&builder);
    grant["scratch"] = "64KiB".into();
    let asks = MOUNTS.replace("{mounts", "{scratch: 64KiB, mounts");
    let server = of_each_kind(builder, &asks, &grant).start().await;
    for kind in KINDS {
        let big = format!("write /w/{kind}-big 200000");
        // Files in a mount do not count.
        let todo = ["write /tmp/a 65536", &big, "append /tmp/a 1", "read /r/file"];
        let lines = done(&server, kind, &todo).await;
        assert!(lines[..2] == ["ok", "ok"] && is_full(&lines[2]) && lines[3] == "from the host", "{kind}: {lines:?}");
        let todo = [
            "write /tmp/a 1",
            "rename /tmp/a /w/a",
            "link /tmp/a /w/a",
            "rename /w/file /tmp/b",
            "link /w/file /tmp/b",
        ];
        let lines = done(&server, kind, &todo).await;
        for line in &lines[1..] {
            assert!(line.contains("CrossesDevices") || line.contains("CrossDevice"), "{kind}: {lines:?}");
        }
    }
    assert!(root.join("write/file").exists());
}

/// Returns the systems that `told systems` prints.
async fn systems(server: &Server, call: &str, words: &[&str]) -> Vec<String> {
    let end = server.call(call, &[&["systems"], words].concat()).await.finish().await;
    end.success().split_off(1)
}

#[tokio::test]
async fn plugin_reads_and_writes_systems_as_granted() {
    let manifest =
        |call: &str, wish: &str| format!("calls: {{{call}: {{access: public}}}}\ncapabilities: {{{wish}}}\n");
    let server = Server::builder()
        .plugin("none", Guest::component("told"), &manifest("none", ""))
        .plugin("reads", Guest::component("told"), &manifest("reads", "systems: read"))
        .plugin("writes", Guest::component("told"), &manifest("writes", "systems: write"))
        .plugin("greedy", Guest::component("told"), &manifest("greedy", "systems: write"))
        .set(
            "plugins.grants",
            json!({"reads": {"systems": "write"}, "writes": {"systems": "write"}, "greedy": {"systems": "read"}}),
        )
        .set("systems", json!([{"slug": "atlas", "url": "https://atlas.example.org"}]))
        .start()
        .await;
    assert_eq!(
        systems(&server, "none", &["list", "put", "coins"]).await,
        ["plugin.yaml does not ask for systems: read", "Err(\"plugin.yaml does not ask for systems: write\")"]
    );
    assert_eq!(
        systems(&server, "reads", &["list", "remove", "atlas"]).await,
        ["[(\"atlas\", None)]", "Err(\"plugin.yaml does not ask for systems: write\")"]
    );
    assert_eq!(
        systems(&server, "writes", &["put", "coins", "put", "coins", "put", "No Slug", "remove", "gone", "list"]).await,
        [
            "Ok(true)",
            "Ok(false)",
            "Err(\"\\\"No Slug\\\" is not a slug: write 1 to 63 lowercase letters, digits or dashes, beginning with a letter\")",
            "Ok(false)",
            "[(\"atlas\", None), (\"coins\", Some(\"2026-11-24T12:00:00Z\"))]"
        ]
    );
    // Every caller sees the system, also after the end of the process.
    let listed = server.get("/api/v1/systems").await.json();
    assert_eq!((&listed[1]["Slug"], &listed[1]["Tagline"]), (&json!("coins"), &json!("made by a call")));
    assert_eq!(systems(&server, "writes", &["remove", "coins", "list"]).await, ["Ok(true)", "[(\"atlas\", None)]"]);
    assert_eq!(server.call("greedy", &[]).await.finish().await.failure(), "unknown call \"greedy\"");
}
