//! The service manager, such as systemd: the notifications that it gets, the sockets that it passes, and the shipped
//! units.

use distillery_tests::{Client, Guest, Server, http::get_at, patiently, program::output_of_tool, server::Builder};
use rustix::process::Signal;
use std::{
    fs,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A service manager that receives the states of a server.
struct Manager {
    socket: tokio::net::UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn at(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&path).expect("a socket for the manager");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Self { socket: tokio::net::UnixDatagram::from_std(socket).expect("a socket"), path }
    }

    /// Returns the next notification with this beginning.
    async fn told(&self, beginning: &str) -> String {
        patiently(beginning, async {
            loop {
                let mut buffer = [0; 1000];
                let read = self.socket.recv(&mut buffer).await.expect("a message");
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                if text.starts_with(beginning) {
                    return text;
                }
                let beside = text == "WATCHDOG=1" || text.starts_with("EXTEND_TIMEOUT_USEC=");
                assert!(beside, "{text} instead of {beginning}");
            }
        })
        .await
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be started")
}

fn managed(builder: &Builder) -> (Manager, Command) {
    let manager = Manager::at(builder.directory().join("notify"));
    let mut command = builder.command();
    command.env("NOTIFY_SOCKET", &manager.path);
    (manager, command)
}

#[tokio::test]
async fn service_manager_is_notified_of_each_state() {
    let builder = Server::builder().guest(Guest::component("echo_once"));
    let (manager, mut command) = managed(&builder);
    let mut server = builder.begun(spawn(&mut command));
    manager.told("READY=1").await;
    // Once the manager knows that the server is ready, clients can call.
    server.listens().await;
    let mut client = server.call("echo_once", &[]).await;
    client.say("x").await;
    client.finish().await.success();
    server.signal(Signal::HUP);
    let reloading = manager.told("RELOADING=1").await;
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("since when");
    assert!(since.parse::<u64>().is_ok_and(|it| it > 0), "{reloading}");
    manager.told("READY=1").await;
    server.terminate();
    manager.told("STOPPING=1").await;
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test]
async fn watchdog_is_fed_while_guests_spin() {
    let builder = Server::builder().guest(Guest::component("spin"));
    let (manager, mut command) = managed(&builder);
    command.env("WATCHDOG_USEC", "300000");
    let mut server = builder.begun(spawn(&mut command));
    server.listens().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = server.call("spin", &[]).await;
        client.line().await;
        clients.push(client);
    }
    manager.told("READY=1").await;
    for _ in 0..3 {
        manager.told("WATCHDOG=1").await;
    }
}

/// Starts the server as systemd does: the first three file descriptors are listening sockets.
fn with_sockets(builder: &Builder, clients: TcpListener, operator: TcpListener) -> Child {
    let plain = builder.command();
    // The shell keeps its process id when it becomes the server.
    let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null
        export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=http:ops
        exec \"$@\"";
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).arg("bash").arg(plain.get_program()).args(plain.get_args());
    command.current_dir(builder.directory()).stderr(Stdio::piped());
    command.stdin(OwnedFd::from(clients)).stdout(OwnedFd::from(operator));
    command.spawn().expect("it can be started")
}

#[tokio::test]
async fn server_listens_on_sockets_from_the_manager() {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a socket");
    let (clients, operator) = (listen(), listen());
    let addresses = [&clients, &operator].map(|it| it.local_addr().expect("an address"));
    // The client connects before there is a server: no connection is refused at any moment.
    let early = tokio::net::TcpStream::connect(addresses[0]).await.expect("the socket takes connections");
    let builder = Server::builder().guest(Guest::component("echo_once"));
    let child = with_sockets(&builder, clients, operator);
    let mut server = builder.begun(child);
    server.listens().await;
    assert_eq!(server.address(), addresses[0], "http.listen is ignored");
    assert_eq!(server.operators_address().await, addresses[1]);
    assert_eq!(get_at(addresses[1], "/healthz").await.status.as_u16(), 200);
    let mut client = Client::upgrade(early, addresses[0], "/api/v1/ws", &[]).await.expect("a socket");
    client.call("echo_once", &[]).await;
    client.say("early").await;
    assert_eq!(client.finish().await.success(), ["early"]);
}

#[tokio::test]
async fn systemd_accepts_the_units() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no systemd-analyze: install systemd");
        eprintln!("SKIPPED: systemd-analyze verify of the units, as there is no systemd-analyze");
        return;
    };
    assert!(version.status.success());
    // The program and the user of the unit do not exist on this machine: these messages are filtered, all others count.
    let directory = tempfile::tempdir().expect("a directory for units");
    for unit in ["distillery.service", "distillery.socket"] {
        let text = fs::read_to_string(deploy.join(unit)).expect("a unit");
        let text = text.replace("/usr/bin/distillery", "/bin/true");
        fs::write(directory.path().join(unit), text).expect("a unit");
    }
    for unit in ["distillery.service", "distillery.socket"] {
        let mut verify = Command::new("systemd-analyze");
        verify.arg("verify").arg("--man=no").arg(directory.path().join(unit));
        let output = output_of_tool(&mut verify);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<_> = said.lines().filter(|line| line.contains("distillery")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
    // Of ten points of exposure, no more than two.
    let mut judge = Command::new("systemd-analyze");
    judge.args(["security", "--offline=yes", "--no-pager", "--threshold=20"]);
    let output = output_of_tool(judge.arg(directory.path().join("distillery.service")));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
