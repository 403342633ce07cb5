//! The files of deploy/ for an installation, and the pages about them.

use crate::{is_on_the_path, is_there, read, repository};
use distillery_tests::{
    Server,
    http::get_at,
    patiently,
    program::{output, output_of_tool, piped, program, text},
};
use hyper::Method;
use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Returns the names of series in a text.
fn series(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let ours = |word: &&str| word.starts_with("distillery_") || word.starts_with("process_");
    words.filter(ours).map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[tokio::test]
async fn monitoring_page_lists_the_series_of_the_server() {
    let server = Server::builder()
        .set("ops.listen", "127.0.0.1:0")
        // Nothing listens there: spans are dropped, and counted.
        .set("traces.endpoint", "http://127.0.0.1:9/v1/traces")
        .start()
        .await;
    let metrics = get_at(server.operators_address().await, "/metrics").await;
    let metrics = text(&metrics.body);
    let exposed: BTreeSet<_> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect();
    assert!(exposed.len() > 20, "{metrics}");
    let page = read("docs/server/monitoring.md");
    let (_, table) = page.split_once("## Metrics").expect("a section");
    let (table, alerts) = table.split_once("## Alerts").expect("a section");
    let listed = series(table);
    assert_eq!(exposed.difference(&listed).collect::<Vec<_>>(), [""; 0], "not on the page");
    assert_eq!(listed.difference(&exposed).collect::<Vec<_>>(), [""; 0], "not in the metrics");

    let rules = read("deploy/prometheus/alerts.yml");
    let parsed: serde_json::Value = serde_yaml::from_str(&rules).expect("YAML");
    let rules = parsed["groups"][0]["rules"].as_array().expect("rules");
    let expressions: String = rules.iter().map(|rule| format!("{}\n", rule["expr"].as_str().expect("text"))).collect();
    assert_eq!(series(&expressions).difference(&exposed).collect::<Vec<_>>(), [""; 0], "{expressions}");
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        assert!(alerts.contains(&format!("| `{name}` |")), "docs/server/monitoring.md does not mention {name}");
    }
}

#[test]
fn scrape_job_asks_where_the_installation_listens() {
    let job: serde_json::Value = serde_yaml::from_str(&read("deploy/prometheus/scrape.yml")).expect("YAML");
    let target = job["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str().expect("a target");
    assert!(read("docs/server/install.md").contains(&format!("listen: {target} ")), "{target}");
    let rules = job["rule_files"][0].as_str().expect("a file");
    assert!(read("docs/server/install.md").contains(&format!("deploy/prometheus/alerts.yml {rules}\n")), "{rules}");
}

#[tokio::test]
async fn backup_unit_writes_a_database_that_can_be_restored() {
    let server = Server::builder().start().await;
    assert!(server.run(&["user", "add", "ada", "--no-password"]).status.success());
    let unit = read("deploy/distillery-backup.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
    let backups = server.directory().join("backups");
    let here = |line: &str| {
        line.replace("/var/backups/distillery", backups.to_str().expect("a path of text"))
            .replace("/usr/bin/distillery", program().to_str().expect("a path of text"))
            .replace("%%", "%")
    };
    let mut backup = Command::new("sh");
    backup.args(["-c", &here(value("ExecStart="))]);
    for variable in value("Environment=").split(' ') {
        let (name, _) = variable.split_once('=').expect("a variable");
        let value = if name == "DISTILLERY_DATA" { server.data() } else { server.directory().join("distillery.yaml") };
        backup.env(name, value);
    }
    let done = output(&mut backup);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let written: Vec<_> = fs::read_dir(&backups).expect("backups").map(|it| it.expect("a file").path()).collect();
    assert_eq!(written.len(), 1, "{written:?}");
    // Old backups are removed, and this one stays. systemd passes the pattern to find unchanged.
    let remove = here(value("ExecStartPost=").trim_start_matches("/usr/bin/"));
    assert!(output(Command::new("sh").args(["-c", &format!("set -f; {remove}")])).status.success());
    assert!(written[0].is_file());

    let restored = Server::builder();
    fs::create_dir_all(restored.directory().join("data")).expect("a directory");
    fs::copy(&written[0], restored.directory().join("data/distillery.db")).expect("a database");
    assert!(text(&restored.run(&["user", "list"], "").stdout).contains("ada"));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_backup_units() {
    if !is_there(is_on_the_path("systemd-analyze"), "systemd-analyze") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory for units");
    let units = ["distillery-backup.service", "distillery-backup.timer"];
    for unit in units {
        fs::copy(repository("deploy").join(unit), directory.path().join(unit)).expect("a unit");
    }
    for unit in units {
        let said = output_of_tool(
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(directory.path().join(unit)),
        );
        let said = text(&said.stderr);
        let ours: Vec<_> = said.lines().filter(|line| line.contains("distillery-backup")).collect();
        assert!(ours.is_empty(), "{said}");
    }
}

/// nginx with the site of deploy/ on free ports, before a server. It ends with its test.
struct Nginx {
    child: Child,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // nginx can have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Nginx {
    fn start(directory: &Path, server: SocketAddr) -> Self {
        let [plain, tls] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [plain, tls] = [plain, tls].map(|it| it.local_addr().expect("an address"));
        let certificate = repository("tests/src/certificates/one");
        let certificate = certificate.to_str().expect("a path of text");
        let mut site = read("deploy/nginx.conf");
        for (from, to) in [
            ("    listen 80;\n", format!("    listen {plain};\n")),
            ("    listen [::]:80;\n", String::new()),
            ("    listen 443 ssl;\n", format!("    listen {tls} ssl;\n")),
            ("    listen [::]:443 ssl;\n", String::new()),
            ("/etc/letsencrypt/live/calls.example.org/fullchain.pem", format!("{certificate}.pem")),
            ("/etc/letsencrypt/live/calls.example.org/privkey.pem", format!("{certificate}.key")),
            ("http://127.0.0.1:8080", format!("http://{server}")),
        ] {
            assert!(site.contains(from), "deploy/nginx.conf: no {from:?}");
            site = site.replace(from, &to);
        }
        let around = format!(
            "daemon off; master_process off; pid {0}/nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; \
             uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{site}\n}}\n",
            directory.display()
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, around).expect("a configuration");
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&file).arg("-p").arg(directory).stdin(Stdio::null()).stdout(Stdio::null());
        let child = nginx.spawn().expect("it can be started");
        Self { child, plain, tls }
    }
}

#[tokio::test]
async fn nginx_site_carries_calls_and_tells_the_client() {
    if !is_there(is_on_the_path("nginx"), "nginx") {
        return;
    }
    let server = Server::builder()
        .example("echo")
        .example("ask")
        .set("http.trusted_proxies", vec!["127.0.0.1"])
        .set("auth.forwarded_users", true)
        .start()
        .await;
    let nginx = Nginx::start(server.directory(), server.address());
    patiently("nginx", async {
        while tokio::net::TcpStream::connect(nginx.tls).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let moved = get_at(nginx.plain, "/api/v1/auth").await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (301, "https://localhost/api/v1/auth"));

    let url = format!("https://localhost:{}", nginx.tls.port());
    let authority = repository("tests/src/certificates/one.pem");
    let call = |words: &[&str]| {
        let mut call = server.command(&["call", "--url", &url, "--ca"]);
        call.arg(&authority).args(words);
        call
    };
    let echoed = piped(&mut call(&["echo", "2"]), "one\ntwo\n");
    assert_eq!(text(&echoed.stdout), "one\ntwo\n", "{}", text(&echoed.stderr));
    // An unfinished line passes as well, as nginx does not buffer.
    let asked = piped(&mut call(&["ask"]), "Ada\n");
    assert_eq!(text(&asked.stdout), "What is your name? Hello, Ada!\n", "{}", text(&asked.stderr));

    // A direct client of the server is trusted as nginx is, and can name a user; no client of nginx can.
    let named = server.request(Method::GET, "/api/v1/auth", &[("x-forwarded-user", "ada")]).await;
    assert_eq!(named.json()["User"], "ada");
    if is_there(is_on_the_path("curl"), "curl") {
        let mut who = Command::new("curl");
        who.args(["--silent", "--header", "X-Forwarded-User: ada", "--cacert"])
            .arg(&authority)
            .arg(format!("{url}/api/v1/auth"));
        let who = output(&mut who);
        assert!(text(&who.stdout).contains("\"User\":\"\""), "{}{}", text(&who.stdout), text(&who.stderr));
    }
}
