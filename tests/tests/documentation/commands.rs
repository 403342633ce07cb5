//! The commands of the README and of the first call, typed as a reader does, beside a server.

use crate::{read, repository};
use distillery_tests::{
    Server, patiently,
    program::{output_of_tool, program, spawn, text},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    env, fs,
    io::{Read, Write},
    os::unix::fs::symlink,
    process::{Child, Command, Output},
};

/// Commands that are not run: the server itself, and these tests.
const NOT_HERE: [&str; 3] = ["make run", "make test", "export PATH=\"$PWD/target/quick:$PATH\""];

/// The actions of a reader for a command, and the expected output.
#[derive(Clone, Copy, Debug, Default)]
struct Typed {
    command: &'static str,
    input: &'static str,
    /// Presses Ctrl-C once this text was printed.
    interrupt: Option<&'static str>,
    shows: &'static str,
    status: i32,
}

const fn shows(command: &'static str, shows: &'static str) -> Typed {
    Typed { command, shows, input: "", interrupt: None, status: 0 }
}

const fn answers(command: &'static str, input: &'static str, shows: &'static str) -> Typed {
    Typed { command, shows, input, interrupt: None, status: 0 }
}

const fn interrupts(command: &'static str, after: &'static str, shows: &'static str) -> Typed {
    Typed { command, shows, input: "", interrupt: Some(after), status: 130 }
}

/// By the beginning of a command, the longest first. A command without an entry must only succeed.
const TYPED: [Typed; 15] = [
    answers("distillery call --token-file ada.token hello Ada", "one\nend\n", "echo: one\n"),
    shows("distillery plugins rollback hello", "hello"),
    answers("distillery run plugins/hello Ada", "one\nend\n", "hello Ada\necho: one\n"),
    shows("distillery build plugins/hello", "kind: "),
    answers("distillery call hello Ada", "one\nend\n", "echo: one\n"),
    shows("distillery new rust hello", "created "),
    shows("distillery call countdown 3", "3\n2\n1\nliftoff\n"),
    interrupts("distillery call countdown 60", "58\n", "countdown stopped at 58\n"),
    interrupts("distillery call grind", "\n", "cleaning up: stopped because of \"client\""),
    answers("distillery call ask", "Ada\n", "Hello, Ada!\n"),
    shows("distillery plugins", "hello"),
    shows("distillery calls", "countdown"),
    shows("curl -d text ", "text"),
    shows("curl ", "\"name\":\"countdown\""),
    shows("mkdir -p plugins/greet", "Hello Ada. What shall I repeat?\nhip hip!\nGoodbye Ada.\n"),
];

/// A page that the test follows, and the server that its reader has started.
struct Guide {
    page: String,
    server: Server,
    followed: Vec<String>,
    loaded: usize,
}

impl Guide {
    async fn open(page: &str) -> Self {
        let examples = ["ask", "assemble", "countdown", "echo", "grind"];
        let server = examples.iter().fold(Server::builder(), |server, name| server.example(name)).start().await;
        let built = server.directory().join("target/quick");
        fs::create_dir_all(&built).expect("a directory for the program");
        symlink(program(), built.join("distillery")).expect("the program under its own name");
        Self { page: read(page), server, followed: Vec::new(), loaded: 0 }
    }

    /// Types the commands of a section.
    async fn section(&mut self, title: &str) {
        let (_, rest) =
            self.page.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
        let section = rest.split("\n## ").next().expect("a section").to_owned();
        self.followed.push(title.to_owned());
        for block in section.split("```sh\n").skip(1).map(|it| it.split("```").next().expect("a block")) {
            // A document within a command belongs to the command.
            let steps = if block.contains("<<") { vec![block] } else { block.lines().collect() };
            for step in steps.into_iter().filter(|step| !NOT_HERE.contains(step)) {
                self.step(step).await;
            }
        }
    }

    async fn step(&mut self, step: &str) {
        let typed = TYPED.iter().find(|typed| step.starts_with(typed.command)).copied().unwrap_or_default();
        let output = if step.starts_with("distillery build") {
            output_of_tool(&mut self.command(step))
        } else {
            follow(spawn(&mut self.command(step)), typed)
        };
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(typed.status), "{step}\n{out}{err}");
        assert!(out.contains(typed.shows) || err.contains(typed.shows), "{step}: no {:?} in\n{out}{err}", typed.shows);
        if step.starts_with("distillery build") {
            self.loads().await;
        }
    }

    /// Returns the shell of the reader for this command.
    fn command(&self, step: &str) -> Command {
        // A single command is the process that Ctrl-C reaches.
        let exec = if step.starts_with("distillery") { "exec " } else { "" };
        let step = step.replace("http://127.0.0.1:8080", &format!("http://{}", self.server.address()));
        let mut path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
        path.insert(0, self.server.directory().join("target/quick"));
        let mut command = Command::new("bash");
        command
            .args(["-euc", &format!("{exec}{step}")])
            .current_dir(self.server.directory())
            .env("PATH", env::join_paths(path).expect("a path"))
            // Uses a port of its own.
            .env("DISTILLERY_HTTP__LISTEN", self.server.address().to_string());
        for meant_for_this_test in
            ["CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS"]
        {
            command.env_remove(meant_for_this_test);
        }
        command
    }

    /// Changes a file of the plugin as the page says.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.server.directory().join(file);
        let before = fs::read_to_string(&path).expect("a file of the plugin");
        assert!(before.contains(from), "{file}: no {from:?}");
        self.server.put(file, before.replace(from, to));
    }

    /// Waits until the next version of the plugin hello serves.
    async fn loads(&mut self) {
        self.loaded += 1;
        // A rollback serves a version again without loading it.
        let is_hello = |line: &distillery_tests::log::Line| {
            line.message() == "plugin loaded" && line.field("plugin") == "hello" && !line.field("ms").is_empty()
        };
        self.server.log().lines_of("hello to be loaded", self.loaded, is_hello).await;
    }

    /// Checks that the test followed every section with commands.
    fn end(self) {
        for section in self.page.split("\n## ").skip(1).filter(|section| section.contains("```sh\n")) {
            let title = section.lines().next().expect("a title");
            assert!(self.followed.iter().any(|it| it == title), "{title} was not followed");
        }
    }
}

/// Types into a running command. Its stdin stays open, as in a terminal.
fn follow(mut child: Child, typed: Typed) -> Output {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(typed.input.as_bytes()).expect("the command reads, or still exists");
    let mut stdout = Vec::new();
    let mut out = child.stdout.take().expect("stdout is piped");
    let mut pressed = typed.interrupt.is_none();
    let mut buffer = [0; 4096];
    loop {
        let read = out.read(&mut buffer).expect("its output");
        stdout.extend(&buffer[..read]);
        if !pressed && text(&stdout).contains(typed.interrupt.unwrap_or_default()) {
            pressed = true;
            kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        }
        if read == 0 {
            break;
        }
    }
    let output = child.wait_with_output().expect("it can be waited for");
    drop(stdin);
    Output { stdout, ..output }
}

#[tokio::test]
async fn commands_of_the_readme_run() {
    let mut readme = Guide::open("README.md").await;
    readme.section("Run it").await;
    readme.section("A call in ten lines").await;
    // The running server has noticed the new directory, as the README promises.
    let line = readme.server.log().line("greet to be loaded", |line| line.field("plugin") == "greet");
    patiently("greet", line).await;
    let mut greet = readme.server.call("greet", &["Zoë"]).await;
    assert_eq!(greet.line().await, "Hello Zoë. What shall I repeat?");
    greet.cancel().await;
    assert_eq!(greet.finish().await.lines, ["Goodbye Zoë."]);
    readme.end();
}

#[tokio::test]
async fn commands_of_the_first_call_run() {
    let mut page = Guide::open("docs/first-call.md").await;
    page.section("Start a server").await;
    page.section("Call something").await;
    page.section("Write a call").await;
    page.edit("plugins/hello/src/main.rs", "println!(\"hello {name}\")", "println!(\"good morning {name}\")");
    page.section("Swap it").await;
    page.edit("plugins/hello/plugin.yaml", "    access: public", "    #access: public");
    page.loads().await;
    page.section("Decide who can run it").await;
    let mut anonymous = page.server.call("hello", &["Ada"]).await;
    anonymous.say("end").await;
    assert_eq!(anonymous.finish().await.failure(), "not authorized to run \"hello\"");
    page.end();
}

#[test]
fn makefile_says_what_the_readme_promises() {
    let help = output_of_tool(Command::new("make").arg("--no-print-directory").current_dir(repository("")));
    let help = text(&help.stdout);
    for target in ["run", "test", "docs", "reference", "pictures", "check"] {
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(target)), "{target}: {help}");
    }
}
