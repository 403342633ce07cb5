//! A server under test: a child process in a directory of its own, on a port of its own, with the plugins of the test.
//! It knows the configuration and the start of a server, and nothing about its protocols.

use crate::{
    PATIENCE,
    client::Client,
    deadline,
    guest::Guest,
    log::{Line, Log},
    program::{piped, program, worked},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// A running server, which ends with the test.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    pid: Pid,
    log: Log,
    config: Value,
    // After the log: the directory is removed when the child has exited.
    directory: TempDir,
}

/// A server that another one has replaced in a takeover.
#[derive(Debug)]
pub struct Retired {
    pid: Pid,
    log: Log,
}

/// The resources of a server: memory in bytes, and the number of threads, open files, and sockets among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupied {
    pub memory: u64,
    pub threads: u64,
    pub open_files: u64,
    pub sockets: u64,
}

/// The options of a server to be started.
#[derive(Debug)]
pub struct Builder {
    config: Value,
    arguments: Vec<&'static str>,
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
    directory: TempDir,
}

/// All servers of all runs share compiled guests: each guest is compiled once.
pub const COMPILED: &str = concat!(env!("OUT_DIR"), "/compiled");

impl Server {
    /// Returns a server with the API on and without plugins.
    pub fn builder() -> Builder {
        deadline::begin();
        let directory = TempDir::with_prefix("distillery-test-").expect("a directory for the server");
        let inside = |name: &str| directory.path().join(name);
        fs::create_dir(inside("plugins")).expect("a directory for its plugins");
        let config = json!({
            "http": { "listen": "127.0.0.1:0", "api": true },
            "plugins": { "directory": inside("plugins") },
            "cache": COMPILED,
            "data": inside("data"),
            "log": { "format": "json", "level": "info" },
        });
        Builder { config, arguments: Vec::new(), environment: Vec::new(), open_files: None, directory }
    }

    /// Returns a server with these guests as public calls.
    pub async fn with(guests: impl IntoIterator<Item = Guest>) -> Self {
        guests.into_iter().fold(Self::builder(), Builder::guest).start().await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn plugins(&self) -> PathBuf {
        self.directory.path().join("plugins")
    }

    /// Returns the directory of the server, with all of its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Puts a file into the directory of the server atomically, as careful tools do.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory for the file");
        let aside = path.with_extension("new");
        fs::write(&aside, content).expect("a file beside it");
        fs::rename(&aside, &path).expect("a file of the server");
    }

    /// Writes another value of a key into the configuration. The server needs a reload.
    pub fn reconfigure(&mut self, key: &str, value: impl Into<Value>) {
        set(&mut self.config, key, value.into());
        fs::write(self.directory.path().join(CONFIG), self.config.to_string()).expect("a configuration for the server");
    }

    /// Runs a command of the command line against this server, and returns the output.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    /// Returns the directory of the persistent data of the server.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Opens a socket without sending a message.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Opens a socket and calls `name`.
    pub async fn call(&self, name: &str, params: &[&str]) -> Client {
        let mut client = self.connect().await;
        client.call(name, params).await;
        client
    }

    /// Returns the line of the log about the end of the first process of `call`.
    pub async fn process_ended(&self, call: &str) -> Line {
        let what = format!("the end of a process of {call}");
        self.log.line(&what, |line| line.message() == "process ended" && line.field("call") == call).await
    }

    /// Sends a signal, as `kill` does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the server is running");
    }

    /// Kills the server as a crash would, and starts it again on the remaining files.
    pub async fn crash_and_restart(&mut self) {
        self.signal(Signal::KILL);
        self.wait().await;
        self.restart().await;
    }

    /// Starts a server that has ended again, in the same directory.
    pub async fn restart(&mut self) {
        self.log.join();
        let child = spawn(&mut program_in(self.directory.path(), &["serve"]));
        self.pid = Pid::from_child(&child);
        self.log = Log::follow(child, |_| true);
        self.address = ready(&self.log).await;
    }

    /// Builds a command of the program for this server, not yet started. The environment does not name a server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program_in(self.directory.path(), arguments);
        for name in ["DISTILLERY_URL", "DISTILLERY_TOKEN", "DISTILLERY_TOKEN_FILE"] {
            command.env_remove(name);
        }
        command
    }

    /// Starts another server that takes over from this one, and waits for the takeover. Returns the old server.
    pub async fn take_over(&mut self) -> Retired {
        self.replace(spawn(&mut program_in(self.directory.path(), &["serve", "--takeover"]))).await
    }

    /// Waits until a started server is ready.
    pub async fn listens(&mut self) {
        self.address = ready(&self.log).await;
    }

    /// Waits until a started server listens, ready or not.
    pub async fn listens_early(&mut self) {
        self.address = listening(&self.log).await;
    }

    async fn replace(&mut self, child: Child) -> Retired {
        let pid = std::mem::replace(&mut self.pid, Pid::from_child(&child));
        let log = std::mem::replace(&mut self.log, Log::follow(child, |_| true));
        let retired = Retired { pid, log };
        self.address = ready(&self.log).await;
        let over = |line: &Line| line.message().starts_with("another server has taken over");
        retired.log.line("the server before to be taken over", over).await;
        self.log.line("the takeover", |line| line.message().starts_with("took over")).await;
        retired
    }

    /// Continues with the server of this process id, which the previous one has started: it has the same log.
    pub fn follow(&mut self, process: u32) {
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        self.pid = pid.expect("the number of a process");
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns the address of the operator's listener.
    pub async fn operators_address(&self) -> SocketAddr {
        let line =
            self.log.line("an address for the operator", |line| line.message() == "answering the operator").await;
        line.field("address").parse().expect("an address")
    }

    /// Runs a command of the program beside the server, which reads `stdin`.
    pub fn run_with(&self, arguments: &[&str], stdin: &str) -> Output {
        run(self.directory.path(), arguments, stdin)
    }

    /// Returns the exit status of the server, once it has exited.
    pub async fn wait(&self) -> ExitStatus {
        self.log.ended().await
    }

    /// Returns the current number of child processes of the server.
    pub fn children(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero())).expect("the server is running");
        let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        children.map(|children| children.split_whitespace().count()).sum()
    }

    /// Returns the peak memory of the server, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:") * 1024
    }

    /// Returns the current memory of the server, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// Returns the number of mappings in the address space of the server.
    pub fn mappings(&self) -> usize {
        self.proc("maps").lines().count()
    }

    /// Returns the current resources of the server.
    pub fn occupied(&self) -> Occupied {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).expect("the server is running");
        // A file that was closed between the listing and the look is not counted.
        let files: Vec<_> = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).collect();
        Occupied {
            memory: self.memory(),
            threads: self.status("Threads:"),
            open_files: files.len() as u64,
            sockets: files.iter().filter(|file| file.as_os_str().as_encoded_bytes().starts_with(b"socket:")).count()
                as u64,
        }
    }

    /// Returns the resources of the server once they match.
    #[expect(clippy::disallowed_methods, reason = "the kernel reports no changes, so the value is polled")]
    pub async fn occupies(&self, what: &str, wanted: impl Fn(&Occupied) -> bool) -> Occupied {
        let settled = async {
            loop {
                let occupied = self.occupied();
                if wanted(&occupied) {
                    return occupied;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, settled).await {
            Ok(occupied) => occupied,
            Err(_) => panic!("waited in vain for {what}, and it is {:?}", self.occupied()),
        }
    }

    /// Returns a number of the kernel about the server.
    fn status(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel reports it");
        value.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid.as_raw_nonzero());
        fs::read_to_string(path).expect("the server is running")
    }
}

impl Retired {
    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the server is running");
    }

    /// Returns the exit status of the server, once it has exited.
    pub async fn wait(&self) -> ExitStatus {
        self.log.ended().await
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        if !self.log.has_ended() {
            // The server can end by itself at this moment: then there is nothing to kill.
            _ = kill_process(self.pid, Signal::KILL);
        }
        self.log.join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.log.has_ended() {
            // The server can end by itself at this moment: then there is nothing to kill.
            _ = kill_process(self.pid, Signal::KILL);
        }
        self.log.join();
        if std::thread::panicking() {
            eprintln!("the log of the server, last lines:");
            for line in self.log.lines().iter().rev().take(40).rev() {
                eprintln!("  {line:?}");
            }
        }
    }
}

impl Builder {
    /// Adds a guest as a public call of its own name.
    pub fn guest(self, guest: Guest) -> Self {
        let name = guest.name.clone();
        self.guest_as(&name, guest)
    }

    /// Adds a program of `guests/commands` twice: as a component under its own name, and as a module under
    /// `name.module`.
    pub fn both(self, name: &str) -> Self {
        self.guest(Guest::component(name)).guest_as(&format!("{name}.module"), Guest::module(name))
    }

    /// Adds a guest as the public call `name`, with any parameters.
    pub fn guest_as(self, name: &str, guest: Guest) -> Self {
        self.plugin(name, guest, &format!("calls:\n  {name}:\n    access: public\n"))
    }

    /// Adds a guest with this manifest.
    pub fn plugin(self, name: &str, guest: Guest, manifest: &str) -> Self {
        self.bare_plugin(name, guest).file(&format!("plugins/{name}/plugin.yaml"), manifest)
    }

    /// Adds a guest without a manifest.
    pub fn bare_plugin(self, name: &str, guest: Guest) -> Self {
        let extension = guest.file.extension().and_then(|it| it.to_str()).expect("guests are .wasm or .wat");
        let module = fs::read(&guest.file).expect("a guest can be read");
        self.file(&format!("plugins/{name}/{name}.{extension}"), module)
    }

    /// Adds a plugin of the repository, as it is shipped.
    pub fn example(self, name: &str) -> Self {
        self.plugin(name, Guest::example(name), &Guest::example_manifest(name))
    }

    /// Adds a file in the directory of the server.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory for the file");
        fs::write(&path, content).expect("a file of the server");
        self
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sets a key of the configuration by its full name, such as `limits.time`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.config, key, value.into());
        self
    }

    /// Sets the limit of open files of the server.
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Adds an argument of the command.
    pub fn argument(mut self, argument: &'static str) -> Self {
        self.arguments.push(argument);
        self
    }

    /// Sets the grace period of cancelled processes.
    pub fn grace(self, grace: Duration) -> Self {
        self.set("cancel.grace", format!("{}ms", grace.as_millis()))
    }

    /// Starts a server that does not listen yet: see [`Server::listens`].
    pub fn begin(self) -> Server {
        let child = spawn(&mut self.command());
        self.begun(child)
    }

    /// Wraps a server that the test has started itself, such as from [`Builder::command`], and that does not listen
    /// yet.
    pub fn begun(self, child: Child) -> Server {
        Server {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            pid: Pid::from_child(&child),
            log: Log::follow(child, |_| true),
            config: self.config,
            directory: self.directory,
        }
    }

    /// Returns the program with its configuration, not yet started.
    pub fn command(&self) -> Command {
        self.write();
        let mut command = match self.open_files {
            Some(most) => limited(most, &program_in(self.directory.path(), &["serve"])),
            None => program_in(self.directory.path(), &["serve"]),
        };
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the program without a running server. The command reads `stdin`.
    pub fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        self.write();
        run(self.directory.path(), arguments, stdin)
    }

    /// Adds a user with these scopes and no password, and returns the header with a token of that user with all of
    /// them.
    pub fn user(&self, name: &str, scopes: &[&str]) -> String {
        let scopes: Vec<_> = scopes.iter().flat_map(|scope| ["--scope", scope]).collect();
        worked(&self.run(&[&["user", "add", "--no-password", name], &scopes[..]].concat(), ""));
        format!("Bearer {}", worked(&self.run(&["token", "add", "--user", name], "")))
    }

    fn write(&self) {
        // JSON is YAML.
        let config = self.directory.path().join(CONFIG);
        fs::write(config, self.config.to_string()).expect("a configuration for the server");
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(self) -> Server {
        self.start_watched(|_| true).await
    }

    /// Starts the server with variables in its environment, and waits until it is ready.
    pub async fn start_with<const N: usize>(mut self, environment: [(&str, &str); N]) -> Server {
        self.environment.extend(environment.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self.start().await
    }

    /// Starts the server, and keeps only the lines of the log for which `keep` is true: the log of a long run does not
    /// fit into memory.
    pub async fn start_watched(self, keep: impl Fn(&Line) -> bool + Send + 'static) -> Server {
        let child = spawn(&mut self.command());
        let pid = Pid::from_child(&child);
        let mut server = Server {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            pid,
            log: Log::follow(child, keep),
            config: self.config,
            directory: self.directory,
        };
        server.address = ready(&server.log).await;
        server
    }
}

/// The name of the configuration in the directory of a server.
const CONFIG: &str = "distillery.yaml";

fn set(config: &mut Value, key: &str, value: Value) {
    let mut at = config;
    for part in key.split('.') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[part];
    }
    *at = value;
}

fn spawn(command: &mut Command) -> Child {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    child.expect("the server can be started")
}

/// Waits until the server listens and is ready: it listens before all plugins are loaded.
async fn ready(log: &Log) -> SocketAddr {
    let address = listening(log).await;
    log.line("the server to be ready", |line| line.message() == "ready").await;
    address
}

async fn listening(log: &Log) -> SocketAddr {
    let line = log.line("the server to listen", |line| line.message() == "listening").await;
    line.field("address").parse().expect("the address that it listens on")
}

/// Returns the program with the configuration in `directory`.
fn program_in(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    // In front: after the name of a call everything is a parameter.
    command.arg("--config").arg(directory.join(CONFIG)).args(arguments).current_dir(directory);
    command
}

/// Returns the same command, with a limit of open files.
fn limited(open_files: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -n {open_files} && exec \"$0\" \"$@\"")).arg(command.get_program());
    limited.args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    limited
}

fn run(directory: &Path, arguments: &[&str], stdin: &str) -> Output {
    piped(&mut program_in(directory, arguments), stdin)
}
