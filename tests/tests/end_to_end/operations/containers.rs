//! The files of container images and deployments: valid for their linters, and matching the server.

use distillery_tests::{Server, program::output_of_tool, server::Builder};
use serde::Deserialize as _;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn deploy(path: &str) -> PathBuf {
    Path::new(REPOSITORY).join("deploy").join(path)
}

/// Returns a linter that the Makefile has installed. CI must have the linter.
fn linter(name: &str) -> Option<Command> {
    let program = Path::new(REPOSITORY).join("target/toolchains/lint/bin").join(name);
    if program.is_file() {
        return Some(Command::new(program));
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no {name}: run `make linters`");
    eprintln!("SKIPPED: what {name} says of deploy/, as it could not be had");
    None
}

#[track_caller]
fn finds_nothing(command: &mut Command) {
    let output = output_of_tool(command);
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

fn manifest(name: &str) -> Value {
    let text = fs::read_to_string(deploy("kubernetes").join(name)).expect("a manifest");
    let mut documents = serde_yaml::Deserializer::from_str(&text);
    let manifest = Value::deserialize(documents.next().expect("a document")).expect("YAML that JSON can say");
    assert!(documents.next().is_none(), "{name} has more than one document");
    manifest
}

fn pod() -> Value {
    manifest("deployment.yaml")["spec"]["template"].clone()
}

/// Returns a server with the configuration of the pod, except for its paths.
fn configured() -> Builder {
    let text = manifest("configmap.yaml")["data"]["distillery.yaml"].as_str().expect("a configuration").to_owned();
    Server::builder().file("pod.yaml", text)
}

#[test]
fn image_linter_finds_no_problems() {
    if let Some(mut hadolint) = linter("hadolint") {
        finds_nothing(hadolint.arg("--failure-threshold=style").arg(deploy("Dockerfile")));
    }
}

#[test]
fn kubernetes_knows_every_key_of_the_manifests() {
    if let Some(mut validate) = linter("kubernetes-validate") {
        let manifests = fs::read_dir(deploy("kubernetes")).expect("manifests");
        finds_nothing(validate.arg("--strict").args(manifests.map(|it| it.expect("a manifest").path())));
    }
}

#[test]
fn image_runs_unprivileged_and_has_only_the_server() {
    let file = fs::read_to_string(deploy("Dockerfile")).expect("a Dockerfile");
    let last = file.rsplit("\nFROM ").next().expect("stages");
    assert!(file.contains("\nARG RUN_IMAGE=gcr.io/distroless/"), "{file}");
    assert!(last.starts_with("${RUN_IMAGE}\n") && last.contains("\nUSER 65532:65532\n"), "{last}");
    assert!(!last.contains("\nRUN ") && last.contains("ENTRYPOINT [\"/usr/bin/distillery\"]"), "{last}");
    // Every file that the build reads must pass the ignore list.
    let ignored = fs::read_to_string(deploy("Dockerfile.dockerignore")).expect("a list");
    for needed in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "distillery.yaml", "host", "wit", "tests"] {
        assert!(ignored.lines().any(|line| line == format!("!{needed}")), "{needed}");
        assert!(Path::new(REPOSITORY).join(needed).exists(), "{needed}");
    }
    let toolchain = fs::read_to_string(Path::new(REPOSITORY).join("rust-toolchain.toml")).expect("a toolchain");
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
    assert!(file.contains(&format!("RUSTUP_TOOLCHAIN={}", version.expect("a version"))), "{toolchain}");
}

#[test]
fn pod_can_write_only_to_its_data() {
    let pod = pod();
    let container = &pod["spec"]["containers"][0];
    let context = &container["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"]["drop"][0], "ALL");
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let at = |path: &str| mounts.iter().find(|mount| mount["mountPath"] == path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(at("/etc/distillery")["readOnly"], true);
    let config = manifest("configmap.yaml")["data"]["distillery.yaml"].as_str().expect("a configuration").to_owned();
    let config: Value = serde_yaml::from_str(&config).expect("a configuration");
    assert_eq!(at("/var/lib/distillery")["name"], "data");
    assert_eq!(config["data"], "/var/lib/distillery");
    let deployment = manifest("deployment.yaml");
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate", "two servers cannot share one directory");
    assert_eq!(deployment["spec"]["replicas"], 1);
}

#[tokio::test]
async fn pod_is_probed_on_the_operator_port_and_has_time_to_drain() {
    let pod = pod();
    let container = &pod["spec"]["containers"][0];
    let config = manifest("configmap.yaml")["data"]["distillery.yaml"].as_str().expect("a configuration").to_owned();
    let config: Value = serde_yaml::from_str(&config).expect("a configuration");
    let ports = container["ports"].as_array().expect("ports");
    for (name, listen) in [("http", &config["http"]["listen"]), ("ops", &config["ops"]["listen"])] {
        let port = ports.iter().find(|port| port["name"] == name).expect(name);
        assert_eq!(*listen, format!("0.0.0.0:{}", port["containerPort"]), "{name}");
    }
    for (probe, path) in [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(path), Some("ops")), "{probe}");
    }
    let seconds = |text: &Value| text.as_str().and_then(|it| it.strip_suffix('s')?.parse::<u64>().ok());
    let grace = seconds(&config["cancel"]["shutdown_grace"]).expect("a grace in seconds");
    let cleanup = 10;
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a time");
    let all = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a time");
    assert!(before + grace + cleanup < all, "{before} + {grace} + {cleanup} is not within {all}");
    let service = manifest("service.yaml");
    assert_eq!(service["spec"]["ports"].as_array().map(Vec::len), Some(1), "the operator's port is not exposed");
    assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
    assert_eq!(manifest("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"], pod["metadata"]["labels"]);
}

#[tokio::test]
async fn server_accepts_the_configuration_of_the_pod() {
    let builder = configured();
    let directory = builder.directory().to_owned();
    fs::create_dir_all(directory.join("none")).expect("a directory without plugins");
    let plain = builder.command();
    let mut check = Command::new(plain.get_program());
    check.args(["check", "--config"]).arg(directory.join("pod.yaml")).current_dir(&directory);
    check.env("DISTILLERY_DATA", directory.join("data")).env("DISTILLERY_PLUGINS__DIRECTORY", directory.join("none"));
    finds_nothing(&mut check);
}
