//! The preflight: all checks of a start that change nothing. `serve` begins with it and `check` reports it, so that the
//! two never disagree.

use anyhow::{Context, anyhow};
use distillery_config::Config;
use distillery_core::directory::try_writable;
use distillery_http::{
    hooks::Table,
    ops::Ops,
    server::{Server, tls::Terminator},
};
use distillery_plugin::{Operator, discover::plugin_directories};
use distillery_runtime::Capacity;
use distillery_store::inspection::{Inspection, inspect};
use std::{io::ErrorKind, net::SocketAddr, path::Path, sync::Arc};

/// The listening sockets that a start already has, from a service manager or from the previous server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    pub clients: bool,
    pub operator: bool,
}

/// The results of all checks.
pub(super) struct Preflight {
    pub tls: Option<Arc<Terminator>>,
    pub capacity: Capacity,
    pub operator: Operator,
    pub hooks: Table,
    /// The state of the database; `None` if it cannot be used.
    pub database: Option<Inspection>,
    pub problems: Vec<Problem>,
}

/// A reason why a server cannot start.
pub(super) struct Problem {
    pub error: anyhow::Error,
    /// The address that is already in use.
    pub in_use: Option<SocketAddr>,
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self { error, in_use: None }
    }
}

impl Preflight {
    /// Runs all checks, even after a failure.
    pub fn try_all(config: &Config, given: Given) -> Self {
        let mut problems = Vec::new();
        let tls = config.http.tls.clone().map(|files| Terminator::open(files).map(Arc::new)).transpose();
        let tls = noted(&mut problems, tls.context("cannot set up TLS")).flatten();
        let operator = noted(&mut problems, super::setup::operator(config)).unwrap_or_default();
        let hooks = noted(&mut problems, Table::open(&config.hooks).map_err(Into::into)).unwrap_or_default();
        let data = noted(&mut problems, writable("data", &config.data));
        noted(&mut problems, writable("cache", &config.cache));
        let database = data.and_then(|()| noted(&mut problems, inspect(&config.data).map_err(Into::into)));
        noted(&mut problems, plugin_directories(&config.plugins.directory).map_err(Into::into));
        listeners(config, given, &mut problems);
        let capacity = Capacity::find(config.limits.processes);
        Self { tls, capacity, operator, hooks, database, problems }
    }

    /// Returns itself, or the first problem after logging the others.
    pub fn passed(mut self) -> anyhow::Result<Self> {
        if self.problems.is_empty() {
            return Ok(self);
        }
        let first = self.problems.remove(0);
        for other in &self.problems {
            tracing::error!("{:#}", other.error);
        }
        Err(first.error)
    }
}

fn noted<T>(problems: &mut Vec<Problem>, result: anyhow::Result<T>) -> Option<T> {
    result.map_err(|error| problems.push(error.into())).ok()
}

/// Checks that `directory` can be written or created.
fn writable(key: &str, directory: &Path) -> anyhow::Result<()> {
    let advice = format!("set `{key}` in distillery.yaml to a directory that can be written");
    try_writable(directory).map_err(|error| anyhow!("cannot use {}: {error}; {advice}", directory.display()))
}

/// Tries to listen at each address for which this start has no socket yet.
fn listeners(config: &Config, given: Given, problems: &mut Vec<Problem>) {
    let clients = Some(config.http.listen).filter(|_| !given.clients);
    let operator = config.ops.listen.filter(|_| !given.operator);
    if let (Some(clients), Some(operator)) = (clients, operator)
        && overlap(clients, operator)
    {
        let what = "http.listen and ops.listen are on the same port: choose another for one of them";
        problems.push(anyhow!("{what} ({clients}, {operator})").into());
    }
    let mut cannot = |address, error: anyhow::Error, kind| {
        let in_use = Some(address).filter(|_| kind == ErrorKind::AddrInUse);
        problems.push(Problem { error, in_use });
    };
    if let Some(Err(failed)) = clients.map(Server::try_listen) {
        let (address, kind) = (failed.address, failed.error.kind());
        cannot(address, failed.into(), kind);
    }
    if let Some(Err(failed)) = operator.map(Ops::try_listen) {
        let (address, kind) = (failed.address, failed.error.kind());
        cannot(address, failed.into(), kind);
    }
}

/// Returns whether two addresses cannot both have a socket.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified();
    // In IPv6, "all addresses" include those of IPv4.
    let covers = |a: SocketAddr, b: SocketAddr| all(a) && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, net::TcpListener};

    #[test]
    fn overlapping_listeners_are_found() {
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.2:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(overlap(a.parse().unwrap(), b.parse().unwrap()), expected, "{a} {b}");
        }
    }

    #[test]
    fn preflight_finds_every_problem_and_creates_nothing() {
        let root = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let mut config =
            Config { data: root.path().join("made/data"), cache: root.path().join("file/cache"), ..Config::default() };
        config.plugins.directory = root.path().join("none");
        config.http.listen = taken.local_addr().unwrap();
        config.http.tls = Some(distillery_config::Tls {
            certificate: root.path().join("none.pem"),
            key: root.path().join("none.key"),
        });
        let problems = |config: &Config, given| {
            let found = Preflight::try_all(config, given).problems;
            found.iter().map(|problem| format!("{:#}", problem.error)).collect::<Vec<_>>()
        };
        let found = problems(&config, Given::default());
        let parts = ["cannot set up TLS", "set `cache`", "no such directory", "cannot listen on"];
        assert_eq!(found.len(), parts.len(), "{found:?}");
        for (problem, part) in found.iter().zip(parts) {
            assert!(problem.contains(part), "{problem}");
        }
        config.ops.listen = Some(config.http.listen);
        assert!(problems(&config, Given::default()).iter().any(|it| it.contains("on the same port")));
        let given = Given { clients: true, operator: false };
        assert!(problems(&config, given).iter().any(|it| it.contains("ops.listen")), "{found:?}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
