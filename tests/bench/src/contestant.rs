//! The servers that are compared: how to start, address and stop each.

use crate::{
    client::Target,
    floor,
    request::{self, USER},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Contestant {
    /// The server of this repository.
    Ours,
    /// The same sockets without wasm.
    Floor,
    /// A socket as in axum's documentation: no wasm, and a flush for each line.
    PlainAxum,
    /// The floor's sockets with an instance of wasmtime for each call: no limits, no cancel, no history.
    FloorWithWasmtime,
    /// Debian's websocketd, which starts `cat` for each socket.
    Websocketd,
    /// `wasmtime serve`, which creates an instance for each request and has no websockets.
    WasmtimeServe,
}

/// Files of the guests.
#[derive(Clone, Debug)]
pub struct Guests {
    pub once: PathBuf,
    pub once_tiny: PathBuf,
    pub echo: PathBuf,
    pub spin: PathBuf,
    /// Component for `wasmtime serve`.
    pub served: PathBuf,
}

/// Everything that is needed to start a contestant.
#[derive(Clone, Debug)]
pub struct Setup {
    pub distillery: PathBuf,
    pub wasmtime: PathBuf,
    pub guests: Guests,
    /// Processes and sockets that the server's config allows; `None` for its defaults.
    pub processes: Option<usize>,
}

impl Contestant {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Floor => "floor",
            Self::PlainAxum => "plain axum",
            Self::FloorWithWasmtime => "floor with wasmtime",
            Self::Websocketd => "websocketd",
            Self::WasmtimeServe => "wasmtime serve",
        }
    }

    /// Returns the calls that end after one line, with their names in the table.
    pub fn whole_calls(self) -> &'static [(&'static str, Option<&'static str>)] {
        match self {
            Self::Ours => &[("ours", Some("once")), ("ours, tiny guest", Some("once-tiny"))],
            Self::Floor => &[("floor", Some("once"))],
            Self::PlainAxum => &[("plain axum", Some("once"))],
            Self::FloorWithWasmtime => {
                &[("floor with wasmtime", Some("once")), ("floor with wasmtime, tiny guest", Some("once-tiny"))]
            }
            Self::Websocketd => &[("websocketd", None)],
            Self::WasmtimeServe => &[("wasmtime serve", None)],
        }
    }

    /// Tells whether a call is a socket rather than a request.
    fn has_sockets(self) -> bool {
        self != Self::WasmtimeServe
    }

    /// Tells whether a running process answers lines.
    pub fn exchanges_lines(self) -> bool {
        matches!(self, Self::Ours | Self::Floor | Self::PlainAxum | Self::Websocketd)
    }

    /// Returns the call that echoes until the client leaves.
    pub fn echo(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::Floor | Self::PlainAxum => Some("echo"),
            Self::Websocketd | Self::WasmtimeServe | Self::FloorWithWasmtime => None,
        }
    }

    /// Tells whether any number of lines can be sent without reading. One loop of websocketd serves both directions: it
    /// waits for `cat` to read while `cat` waits for it to read.
    pub fn takes_any_pipeline(self) -> bool {
        matches!(self, Self::Ours | Self::Floor | Self::PlainAxum)
    }

    /// Tells whether it has the resources of the JSON API.
    pub fn answers_requests(self) -> bool {
        matches!(self, Self::Ours | Self::Floor)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Ours | Self::Floor | Self::PlainAxum | Self::FloorWithWasmtime => floor::PATH,
            Self::Websocketd | Self::WasmtimeServe => "/",
        }
    }
}

/// Directories that outlive one start of a server, so that the second start finds its compiled code.
pub struct Ground {
    directory: TempDir,
    /// Token of a user of the server.
    token: Option<String>,
}

/// Time until a server listens. The first start compiles every guest.
const START: Duration = Duration::from_secs(600);

/// Time to stop on request.
const STOP: Duration = Duration::from_secs(10);

/// Sockets beside those of the requested processes, such as the one that checks whether the server listens.
const SPARE_SOCKETS: usize = 64;

impl Ground {
    /// Creates plugins and config for the server.
    pub fn new(setup: &Setup, contestants: &[Contestant]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("distillery-bench-").tempdir()?;
        if contestants.contains(&Contestant::Ours) {
            let Guests { once, once_tiny, echo, spin, .. } = &setup.guests;
            for (call, module) in [("once", once), ("once-tiny", once_tiny), ("echo", echo), ("spin", spin)] {
                let plugin = directory.path().join("plugins").join(call);
                fs::create_dir_all(&plugin)?;
                let extension = module.extension().context("a guest without .wasm or .wat")?;
                fs::copy(module, plugin.join(call).with_extension(extension))
                    .with_context(|| format!("no guest {}: run `make bench`, which builds it", module.display()))?;
                let mut manifest = format!("calls:\n  {call}:\n    access: public\n");
                if call == "spin" {
                    // Without a grace period, the duration of a cancel depends on the server alone.
                    manifest += "cancel:\n  grace: 0s\n";
                }
                fs::write(plugin.join("plugin.yaml"), manifest)?;
            }
        }
        let mut ground = Self { directory, token: None };
        if contestants.contains(&Contestant::Ours) {
            let config = ground.config(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None)?;
            let run = |arguments: &[&str]| -> Result<String> {
                let mut command = Command::new(&setup.distillery);
                let done = command.args(arguments).arg("--config").arg(&config).stdin(Stdio::null()).output()?;
                ensure!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
                Ok(String::from_utf8(done.stdout)?.trim().to_owned())
            };
            run(&["user", "add", USER, "--no-password", "--scope", "call:*"])?;
            ground.token = Some(run(&["token", "add", "--user", USER])?);
        }
        Ok(ground)
    }

    fn config(&self, address: SocketAddr, processes: Option<usize>) -> Result<PathBuf> {
        let here = self.directory.path().display();
        let (mut more_http, mut more) = (String::new(), String::new());
        if let Some(processes) = processes {
            let sockets = processes + SPARE_SOCKETS;
            more_http = format!(", connections: {sockets}, connections_per_address: {sockets}");
            more = format!("limits: {{processes: {processes}}}\n");
        }
        let config = format!(
            "http: {{listen: \"{address}\", api: true{more_http}}}\nplugins: {{directory: \"{here}/plugins\"}}\n\
             data: \"{here}/data\"\nlog: {{level: warn}}\nsystems: {}\n{more}",
            request::systems()
        );
        let path = self.directory.path().join("distillery.yaml");
        fs::write(&path, config)?;
        Ok(path)
    }

    /// Starts a contestant and waits until it listens.
    pub fn start(&self, contestant: Contestant, setup: &Setup) -> Result<Server> {
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let command = match contestant {
            Contestant::Ours => {
                let mut command = Command::new(&setup.distillery);
                command.args(["serve", "--config"]).arg(self.config(address, setup.processes)?);
                command.current_dir(self.directory.path());
                command
            }
            Contestant::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", &address.to_string()]);
                command
            }
            Contestant::PlainAxum => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", &address.to_string(), "--plain"]);
                command
            }
            Contestant::FloorWithWasmtime => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", &address.to_string(), "--once"]).arg(&setup.guests.once);
                command.arg("--once-tiny").arg(&setup.guests.once_tiny);
                command
            }
            Contestant::Websocketd => {
                let mut command = Command::new("websocketd");
                // Logging each connection, which is the default, would slow it down.
                command.args([&format!("--port={port}"), "--address=127.0.0.1", "--loglevel=error", "cat"]);
                command
            }
            Contestant::WasmtimeServe => {
                let mut command = Command::new(&setup.wasmtime);
                // Rust's standard library imports more than the proxy world has.
                command.args(["serve", "-Scli", "--addr", &address.to_string()]).arg(&setup.guests.served);
                command
            }
        };
        let log = self.directory.path().join(format!("{}.log", contestant.name()));
        let mut server = Server::start(contestant, address, command, log)?;
        server.token = self.token.clone();
        Ok(server)
    }
}

/// A running contestant. Dropping it ends it.
pub struct Server {
    contestant: Contestant,
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
    /// Token of requests that need a user.
    token: Option<String>,
    /// Time from the start until it serves every call.
    pub started_in: Duration,
}

impl Server {
    /// Starts `command` and waits until it listens at `address`, and until our server has loaded its plugins.
    pub fn start(contestant: Contestant, address: SocketAddr, mut command: Command, log: PathBuf) -> Result<Self> {
        let out = File::create(&log)?;
        let notices = Notices::new(contestant, &log)?;
        if let Some(notices) = &notices {
            command.env("NOTIFY_SOCKET", &notices.path);
        }
        let begun = Instant::now();
        // An exiting guest is an error inside the server: with backtraces enabled, each would cost a stack trace.
        let child = command
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut server = Self { contestant, address, child, log, token: None, started_in: Duration::ZERO };
        server.wait_until_it_listens(begun)?;
        if let Some(notices) = &notices {
            server.wait_until_it_is_ready(notices, begun)?;
        }
        server.started_in = begun.elapsed();
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn target(&self, call: Option<&str>) -> Target {
        Target {
            address: self.address,
            path: self.contestant.path().into(),
            pid: self.child.id(),
            call: call.map(str::to_owned),
            token: self.token.clone(),
            requests: !self.contestant.has_sockets(),
        }
    }

    /// Returns the last lines of its log, for the message of a failure.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Stops it, by force if it does not react.
    pub fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let until = Instant::now() + STOP;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= until {
                println!("{} did not stop within {STOP:?} of SIGTERM and was killed", self.contestant.name());
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn wait_until_it_listens(&mut self, begun: Instant) -> Result<()> {
        let name = self.contestant.name();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} did not start ({status}):\n{}", self.last_words());
            }
            if begun.elapsed() > START {
                bail!("{name} does not listen after {START:?}:\n{}", self.last_words());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until every plugin is loaded.
    fn wait_until_it_is_ready(&mut self, notices: &Notices, begun: Instant) -> Result<()> {
        let mut notice = [0; 256];
        loop {
            match notices.socket.recv(&mut notice) {
                Ok(length) if notice[..length].split(|it| *it == b'\n').any(|line| line == b"READY=1") => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("cannot wait for the server"),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it was ready ({status}):\n{}", self.last_words());
            }
            ensure!(begun.elapsed() < START, "the server is not ready after {START:?}:\n{}", self.last_words());
        }
    }
}

/// The socket on which our server tells that it is ready, as it tells a service manager.
struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notices {
    /// Returns `None` for a contestant that tells nothing.
    fn new(contestant: Contestant, log: &Path) -> Result<Option<Self>> {
        if contestant != Contestant::Ours {
            return Ok(None);
        }
        let path = log.with_extension("notify");
        // From an earlier server with the same log.
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Some(Self { socket, path }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns an unused port. If another process takes it first, the server fails to start and says so.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Tells whether websocketd is installed; installs Debian's if allowed.
pub fn websocketd_is_installed(may_install: bool) -> bool {
    let here = || {
        let answer = Command::new("websocketd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        answer.is_ok()
    };
    if here() {
        return true;
    }
    if !may_install || !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return false;
    }
    println!("websocketd is not installed: installing Debian's (--no-install leaves it out)");
    let apt = |arguments: &[&str]| {
        let done = Command::new("apt-get").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    let install = ["install", "--yes", "--no-install-recommends", "websocketd"];
    (apt(&install) || (apt(&["update"]) && apt(&install))) && here()
}
