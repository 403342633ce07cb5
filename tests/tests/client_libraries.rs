//! The libraries of `clients`: their own test suites against a server, in Node, in Python and in a browser, and their
//! packages as a user installs them.

use distillery_tests::{
    Browser, Guest, Server,
    languages::toolchains,
    program::{output_of_tool, program},
};
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients");

/// Files that a checkout can have beside the sources.
const BUILT: [&str; 6] = ["__pycache__", ".mypy_cache", "build", "dist", "node_modules", "LICENSE"];

const EXAMPLES: [&str; 5] = ["ask", "assemble", "countdown", "echo", "grind"];
const GUESTS: [&str; 5] = ["conversation", "cut_char", "exit", "many_lines", "never_reads"];
const FORWARDED: &str = "stderr: forward\ncalls:\n  stderr_words:\n    access: public\n";

/// Tells whether a test that needs `what` can run. If not, the test is skipped by name; CI skips nothing.
fn is_there(path: &Path, what: &str) -> bool {
    let found = path.exists();
    assert!(found || env::var("CI").as_deref() != Ok("true"), "there is no {what}: run `make needed`");
    if !found {
        let test = std::thread::current();
        eprintln!("SKIPPED: {}, for want of {what}: run `make needed`", test.name().unwrap_or_default());
    }
    found
}

/// Starts a server with the plugins of the vectors, and returns a token with all scopes.
async fn server(origins: Vec<String>) -> (Server, String) {
    let mut builder = Server::builder().set("http.origins", origins);
    for name in EXAMPLES {
        builder = builder.example(name);
    }
    for name in GUESTS {
        builder = builder.guest(Guest::component(name));
    }
    let builder = builder.guest(Guest::wat("trap_unreachable"));
    let builder = builder.plugin("stderr_words", Guest::component("stderr_words"), FORWARDED);
    let bearer = builder.user("ada", &["*"]);
    let token = bearer.strip_prefix("Bearer ").expect("a token").to_owned();
    (builder.start().await, token)
}

/// Returns a copy of the sources, where a test can build.
fn sources() -> TempDir {
    let directory = TempDir::with_prefix("distillery-test-").expect("a directory for the sources");
    copy(Path::new(CLIENTS), &directory.path().join("clients"));
    directory
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory of sources") {
        let entry = entry.expect("an entry");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if BUILT.iter().any(|built| entry.file_name() == *built) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a source");
        }
    }
}

/// Returns the output of a program that succeeds.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = output_of_tool(command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a program without blocking the server's own tasks.
async fn run_aside(mut command: Command) -> String {
    tokio::task::spawn_blocking(move || run(&mut command)).await.expect("it ends")
}

/// Returns the library for TypeScript, built. `None`, with a message, if the compiler is missing.
fn typescript() -> Option<(TempDir, PathBuf)> {
    let packages = toolchains().join("javascript/node_modules");
    if !is_there(&packages.join("typescript"), "TypeScript") {
        return None;
    }
    let sources = sources();
    let package = sources.path().join("clients/typescript");
    symlink(&packages, package.join("node_modules")).expect("a link to the packages");
    let tsc = packages.join(".bin/tsc");
    run(Command::new(&tsc).args(["--project", "tsconfig.build.json"]).current_dir(&package));
    run(Command::new(&tsc).args(["--noEmit", "false", "--outDir", "build"]).current_dir(&package));
    Some((sources, package))
}

/// Returns Python with the library installed as a user does it, and the directory of its package.
fn python() -> Option<(TempDir, PathBuf, Command)> {
    let python = toolchains().join("clients/bin/python");
    if !is_there(&python, "Python with websockets") {
        return None;
    }
    let sources = sources();
    let package = sources.path().join("clients/python");
    let installed = sources.path().join("installed");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]);
    run(install.arg(&installed).arg(&package).env("PIP_DISABLE_PIP_VERSION_CHECK", "1"));
    let mut command = Command::new(python);
    command.env("PYTHONPATH", &installed).current_dir(&package);
    Some((sources, package, command))
}

/// Counts the lines of all test files in a directory that begin a test.
fn tests_in(directory: &Path, begins: &[&str]) -> usize {
    let files = fs::read_dir(directory).expect("tests").map(|file| file.expect("a file").path());
    let sources = files.filter(|file| file.is_file()).map(|file| fs::read_to_string(file).expect("a test"));
    let count = |source: String| source.lines().filter(|line| begins.iter().any(|it| line.starts_with(it))).count();
    sources.map(count).sum()
}

#[tokio::test]
async fn typescript_library_passes_its_tests() {
    let Some((_sources, package)) = typescript() else { return };
    let (server, token) = server(Vec::new()).await;
    let mut command = Command::new("sh");
    command.args(["-c", "exec node --test --test-reporter=tap build/tests/*.test.js"]).current_dir(&package);
    command.env("DISTILLERY_TEST_URL", format!("http://{}", server.address())).env("DISTILLERY_TEST_TOKEN", token);
    let said = run_aside(command).await;
    let tests = tests_in(&package.join("tests"), &["test(\"", "broken(\""]);
    assert!(tests > 40, "{tests}");
    assert!(said.contains(&format!("\n# pass {tests}\n")) && said.contains("\n# skipped 0\n"), "{tests}: {said}");
}

#[tokio::test]
async fn python_library_passes_its_tests() {
    let Some((_sources, package, mut command)) = python() else { return };
    let (server, token) = server(Vec::new()).await;
    command.args(["-W", "error", "-m", "unittest", "discover", "--start-directory", "tests"]);
    command.env("DISTILLERY_TEST_URL", format!("http://{}", server.address())).env("DISTILLERY_TEST_TOKEN", token);
    let said = run_aside(command).await;
    let tests = tests_in(&package.join("tests"), &["    def test_", "    async def test_"]);
    assert!(tests > 40, "{tests}");
    assert!(said.contains(&format!("\nRan {tests} tests in ")) && said.trim_end().ends_with("\nOK"), "{tests}: {said}");
}

/// A server of files, which ends with its test.
struct Files {
    process: Child,
    origin: String,
}

impl Files {
    fn of(directory: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "--directory"]).arg(directory);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("a server of files");
        let mut told = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut told).expect("a line");
        let port = told.split_whitespace().nth(5).unwrap_or_else(|| panic!("{told}"));
        Self { process, origin: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The program can have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Runs in a page: each answer is the name of a check and what it gave.
const IN_A_PAGE: &str = r#"
    const [url, token] = arguments;
    const check = async () => {
        const { Distillery } = await import("/dist/browser.js");
        const server = new Distillery(url, { token });
        const answers = {};
        answers.caller = (await server.api.auth()).User;
        const { stdout } = await server.run("echo", [], { input: new Blob(["one ", "two"]) });
        answers.echo = stdout;

        const call = server.call("countdown", ["3"], { detach: true, reconnect: { delay: 10 } });
        answers.lines = [];
        for await (const line of call) {
            answers.lines.push(line);
            sockets.at(-1).close();
        }
        answers.success = (await call.result()).success;

        const stranger = new Distillery(url, { token: "dst_nonsense" });
        answers.stranger = await stranger.run("echo").catch((error) => `${error.name} ${error.status}`);

        const large = new Uint8Array(24 << 20).fill(10);
        const echoed = server.call("echo", [], { input: large });
        answers.size = 0;
        for await (const bytes of echoed.stdout) answers.size += bytes.length;
        return answers;
    };
    check().then((answers) => { window.answers = answers; }, (error) => { window.answers = { error: String(error) }; });
"#;

#[tokio::test]
async fn typescript_library_works_in_a_browser() {
    let Some((_sources, package)) = typescript() else { return };
    let Some(browser) = Browser::open().await else { return };
    let files = Files::of(&package);
    let (server, token) = server(vec![files.origin.clone()]).await;
    browser.go(&format!("{}/README.md", files.origin)).await;
    let url = format!("http://{}", server.address());
    browser.run_with(IN_A_PAGE, json!([url, token])).await;
    let answers = browser.until("the answers", "window.answers").await;
    let expected = json!({
        "caller": "ada",
        "echo": "one two",
        "lines": ["3", "2", "1", "liftoff"],
        "success": true,
        "stranger": "ApiError 401",
        "size": 24 << 20,
    });
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn example_page_goes_on_after_a_reload() {
    let Some((_sources, package)) = typescript() else { return };
    let Some(browser) = Browser::open().await else { return };
    let files = Files::of(&package);
    let (server, _) = server(vec![files.origin.clone()]).await;
    browser.go(&format!("{}/examples/browser/", files.origin)).await;
    browser.write("Server", &format!("http://{}", server.address())).await;
    browser.press("Start").await;
    browser.sees("What is your name?").await;
    browser.reload().await;
    browser.sees("Running").await;
    browser.write("Input", "Ada").await;
    browser.press("Send").await;
    browser.sees("What is your name? Hello, Ada!").await;
    browser.sees("Success").await;
    browser.write("Server", &format!("http://{}", server.address())).await;
    browser.write("Call", "countdown").await;
    browser.write("Parameter", "60").await;
    browser.press("Start").await;
    browser.sees("60").await;
    browser.press("Cancel").await;
    browser.sees("countdown stopped at").await;
    browser.sees("Failure: cancelled by the client").await;
    assert_eq!(browser.complaints(&["favicon"]).await, Vec::<String>::new());
}

#[test]
fn typescript_package_installs_without_dependencies() {
    let Some((sources, package)) = typescript() else { return };
    let fresh = sources.path().join("fresh");
    fs::create_dir(&fresh).expect("a directory");
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(&fresh).current_dir(&package);
    let packed = fresh.join(run(&mut pack).trim());
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--offline", "--no-audit", "--no-fund"]).arg(packed).current_dir(&fresh);
    run(&mut install);
    let installed: Vec<_> = fs::read_dir(fresh.join("node_modules"))
        .expect("packages")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert_eq!(installed, ["distillery-client"]);
    let program = "import { Distillery, Types, Result } from 'distillery-client';
        export async function first(url: string): Promise<[Types.Call | undefined, Result]> {
            const server = new Distillery(url);
            for await (const line of server.call('countdown', ['1'])) line.trim();
            return [(await server.api.calls())[0], await server.run('echo', ['1'], { input: 'x' })];
        }";
    fs::write(fresh.join("first.mts"), program).expect("a program");
    for (module, resolution) in [("nodenext", "nodenext"), ("esnext", "bundler")] {
        let mut compile = Command::new(package.join("node_modules/.bin/tsc"));
        compile.args(["--module", module, "--moduleResolution", resolution, "--target", "es2022"]);
        compile.args(["--noEmit", "--strict", "--lib", "es2022,dom", "--types", "", "first.mts"]).current_dir(&fresh);
        run(&mut compile);
    }
}

#[tokio::test]
async fn server_holds_the_conversations_of_the_table() {
    let table = fs::read_to_string(Path::new(CLIENTS).join("vectors.json")).expect("the table");
    let table: Value = serde_json::from_str(&table).expect("the table is JSON");
    let conversations = table["conversations"].as_array().expect("conversations");
    assert!(conversations.len() > 10, "{}", conversations.len());
    let (server, _) = server(Vec::new()).await;
    for case in conversations {
        let params: Vec<_> = case["params"].as_array().expect("parameters").iter().filter_map(Value::as_str).collect();
        let mut talk = server.talk_to(case["call"].as_str().expect("a call"), &params).await;
        if let Some(input) = case["input"].as_str() {
            if !input.is_empty() {
                talk.give(input).await;
            }
            talk.signal("end").await;
        }
        let whole = talk.finish().await;
        assert_eq!(String::from_utf8_lossy(&whole.stdout), case["stdout"].as_str().expect("output"), "{case}");
        assert_eq!(whole.outcome, case["outcome"], "{case}");
    }
}

#[test]
fn types_of_the_api_are_those_of_the_server() {
    let mut check = Command::new("python3");
    run(check.arg(Path::new(CLIENTS).join("generate.py")).arg("--check").arg(program()));
}
