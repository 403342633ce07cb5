//! One of our servers with generated plugins: any number of them, changed while it runs.

use crate::contestant::{Contestant, Server, Setup, free_port};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Time until a request counts as never answered.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Site {
    directory: TempDir,
}

impl Site {
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("distillery-bench-").tempdir()?;
        fs::create_dir(directory.path().join("plugins"))?;
        Ok(Self { directory })
    }

    /// Adds a plugin whose call has its name. `extension` is that of the module; `more` goes into its manifest.
    pub fn plugin(&self, name: &str, extension: &str, module: &[u8], more: &str) -> Result<()> {
        let directory = self.directory.path().join("plugins").join(name);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(name).with_extension(extension), module)?;
        fs::write(directory.join("plugin.yaml"), format!("calls:\n  {name}: {{access: public}}\n{more}"))?;
        Ok(())
    }

    /// Replaces the module of a plugin in one step.
    pub fn swap(&self, name: &str, extension: &str, module: &[u8]) -> Result<()> {
        let file = self.directory.path().join("plugins").join(name).join(name).with_extension(extension);
        // Outside the plugin directory, where it would be noticed.
        let aside = self.directory.path().join("next");
        fs::write(&aside, module)?;
        Ok(fs::rename(aside, file)?)
    }

    /// A directory with so many files, to be granted.
    pub fn directory_with(&self, name: &str, files: usize) -> Result<PathBuf> {
        let directory = self.directory.path().join(name);
        fs::create_dir(&directory)?;
        for number in 0..files {
            fs::write(directory.join(format!("file-{number}")), "")?;
        }
        Ok(directory)
    }

    /// Starts a server; `limits` are lines of that section of its configuration.
    pub fn start(&self, setup: &Setup, limits: &str) -> Result<Server> {
        self.start_granting(setup, limits, "")
    }

    /// The same, with `grants` to plugins.
    pub fn start_granting(&self, setup: &Setup, limits: &str, grants: &str) -> Result<Server> {
        let here = self.directory.path();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let config = here.join("distillery.yaml");
        let (plugins, data) = (here.join("plugins"), here.join("data"));
        let text = format!(
            "http: {{listen: \"{address}\", api: true, connections: 30000, connections_per_address: 30000}}\n\
             plugins: {{directory: {plugins:?}, grants: {{{grants}}}}}\ndata: {data:?}\nlog: {{level: warn}}\nlimits: {{{limits}}}\n",
        );
        fs::write(&config, text)?;
        let mut command = Command::new(&setup.distillery);
        command.args(["serve", "--config"]).arg(&config).current_dir(here);
        Server::start(Contestant::Ours, address, command, here.join("log"))
    }

    /// Returns the path of the operator's socket.
    pub fn control(&self) -> PathBuf {
        self.directory.path().join("data/control.sock")
    }

    /// Returns the duration of a request of the operator over its own connection, and the body of the response.
    pub fn ask(&self, path: &str) -> Result<(Duration, String)> {
        let begun = Instant::now();
        let stream = UnixStream::connect(self.control()).context("cannot connect to the control socket")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = answer(stream, path)?;
        Ok((begun.elapsed(), body))
    }
}

/// Returns the duration of an anonymous request over its own connection.
pub fn request(address: SocketAddr, path: &str) -> Result<Duration> {
    let begun = Instant::now();
    let stream = TcpStream::connect(address).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    answer(stream, path)?;
    Ok(begun.elapsed())
}

fn answer(mut stream: impl Read + Write, path: &str) -> Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("waiting for the answer to a request")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "GET {path} was answered with {answer:.300}");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.context("an answer without an end of its head")
}
