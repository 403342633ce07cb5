//! The image of `deploy/Dockerfile`, built and run by a real engine.

use distillery_tests::{
    Client, Engine, Guest, PATIENCE,
    http::get_at,
    program::{output_of_tool, printed, program, text},
};
use std::{fs, net::SocketAddr, path::Path, process::Command, time::Instant};
use tempfile::TempDir;

const DOCKERFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/Dockerfile");

/// The configuration of a server in a container, which clients reach by another address than its own.
const CONFIG: &str = r#"
http: {listen: "0.0.0.0:8080", api: true, hosts: [localhost, 127.0.0.1]}
ops: {listen: "0.0.0.0:9090"}
plugins: {directory: /etc/distillery/plugins}
"#;

/// Makes an image of the libraries that a program needs, in the place of a distribution without a shell.
fn import_libraries(engine: &Engine, image: &str, program: &Path) {
    let root = TempDir::new().expect("a directory for the image");
    let needed = printed(&output_of_tool(Command::new("ldd").arg(program)));
    let paths = needed.split_whitespace().filter(|word| word.starts_with('/'));
    for library in paths.map(Path::new) {
        let copy = root.path().join(library.strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(copy.parent().expect("it is in a directory")).expect("a directory of libraries");
        fs::copy(library, copy).expect("a copy of a library");
    }
    engine.import(image, root.path(), &[]);
}

fn build(engine: &Engine) {
    let base = engine.import_busybox();
    import_libraries(engine, "libraries:test", &program());
    let context = TempDir::new().expect("a directory for the server");
    // Debug information makes most of the program, and nothing of it runs.
    let stripped = context.path().join("distillery");
    printed(&output_of_tool(Command::new("strip").arg("-o").arg(&stripped).arg(program())));
    let mut build = engine.command("docker");
    build.env("DOCKER_BUILDKIT", "1");
    build.args(["build", "--quiet", "--network", "none", "--tag", "distillery:test", "--file", DOCKERFILE]);
    build.args(["--build-arg", "SERVER=built", "--build-arg", &format!("BUILT_IMAGE={base}")]);
    build.args(["--build-arg", "RUN_IMAGE=libraries:test"]).arg(context.path());
    printed(&output_of_tool(&mut build));
}

/// Runs the image as docs/server/containers.md says, with the call `echo`.
fn run(engine: &Engine) {
    let etc = engine.directory().join("etc");
    fs::create_dir_all(etc.join("plugins/echo")).expect("a directory for the plugin");
    fs::write(etc.join("distillery.yaml"), CONFIG).expect("a configuration");
    fs::write(etc.join("plugins/echo/plugin.yaml"), Guest::example_manifest("echo")).expect("a manifest");
    fs::copy(Guest::example("echo").file, etc.join("plugins/echo/echo.wasm")).expect("a copy of the call");
    // The user of the container is another one.
    printed(&output_of_tool(Command::new("chmod").args(["-R", "a+rX"]).arg(engine.directory().join("etc"))));
    engine.docker(&["network", "create", "net"]);
    let etc = format!("{}:/etc/distillery:ro", etc.display());
    let run = ["run", "--detach", "--name", "distillery", "--network", "net", "--read-only", "--tmpfs", "/tmp"];
    let run = [&run[..], &["--cap-drop", "ALL", "--volume", "distillery:/var/lib/distillery", "--volume", &etc]];
    let ports = ["--publish", "127.0.0.1::8080", "--publish", "127.0.0.1::9090", "distillery:test"];
    engine.docker(&[&run.concat()[..], &ports[..]].concat());
}

fn published(engine: &Engine, port: &str) -> SocketAddr {
    engine.docker(&["port", "distillery", port]).parse().expect("an address")
}

/// Returns the log of the server, once it contains `line`.
#[expect(clippy::disallowed_methods, reason = "the log of a container is read from the engine, which is polled")]
async fn logged(engine: &Engine, line: &str) -> String {
    let begun = Instant::now();
    loop {
        let output = output_of_tool(engine.command("docker").args(["logs", "distillery"]));
        let log = text(&output.stdout) + &text(&output.stderr);
        if log.contains(line) {
            return log;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {line}: {log}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn image_answers_calls_through_a_published_port() {
    let Some(engine) = Engine::start() else { return };
    build(&engine);
    assert_eq!(engine.docker(&["inspect", "--format", "{{.Config.User}}", "distillery:test"]), "65532:65532");
    run(&engine);
    logged(&engine, "\"ready\"").await;
    assert_eq!(get_at(published(&engine, "9090"), "/healthz").await.status, 200);
    let mut client = Client::connect(published(&engine, "8080")).await;
    client.call("echo", &["1"]).await;
    client.say("hello").await;
    assert_eq!(client.finish().await.success(), ["hello"]);

    // The server is the first process of its container, and still ends by itself when it is told.
    engine.docker(&["stop", "--time", "60", "distillery"]);
    assert_eq!(engine.docker(&["inspect", "--format", "{{.State.ExitCode}}", "distillery"]), "0");
}
