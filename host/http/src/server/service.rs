//! Notifies a service manager such as systemd: ready, reloading, stopping, alive. Does nothing without a service
//! manager.

use crate::platform;
use distillery_config as config;
use distillery_observe::health::Health;
use distillery_plugin::loading::Progress;
use rustix::time::{ClockId, clock_gettime};
use std::{
    io,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    sync::Arc,
    time::{Duration, Instant},
};

/// A connection to the service manager.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

/// Listening sockets that the server was started with.
#[derive(Debug, Default)]
pub struct Inherited {
    pub clients: Option<TcpListener>,
    pub operator: Option<TcpListener>,
}

/// The retry interval if the manager's socket is full.
const BEHIND: Duration = Duration::from_millis(50);

/// The name of the operator's socket in a unit (`FileDescriptorName=`).
const OPERATOR: &str = "ops";

impl Inherited {
    /// Takes the inherited sockets and removes their environment variables. Call once, before there are threads.
    pub fn take(service: &config::Service) -> io::Result<Self> {
        let mut inherited = Self::default();
        if service.sockets.is_empty() {
            return Ok(inherited);
        }
        let mut sockets = listenfd::ListenFd::from_env();
        for (at, name) in service.sockets.iter().enumerate() {
            let place = if name == OPERATOR { &mut inherited.operator } else { &mut inherited.clients };
            let listener = sockets.take_tcp_listener(at)?;
            if place.is_some() {
                let what =
                    format!("two sockets for the same: call the operator's {OPERATOR:?} with FileDescriptorName");
                return Err(io::Error::other(what));
            }
            *place = listener;
        }
        Ok(inherited)
    }
}

impl Manager {
    pub fn new(service: &config::Service) -> Self {
        let socket = service.notify.as_deref().and_then(|path| {
            connect(path).inspect_err(|error| tracing::warn!(path, %error, "cannot notify the service manager")).ok()
        });
        Self { socket, watchdog: service.watchdog }
    }

    fn tell(&self, what: &str) {
        if let Err(error) = self.try_tell(what) {
            tracing::warn!(%error, "cannot notify the service manager");
        }
    }

    fn try_tell(&self, what: &str) -> io::Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| socket.send(what.as_bytes()).map(drop))
    }

    /// Reports readiness, with retries if the manager is behind: a start without this message would be aborted.
    pub async fn ready(&self) {
        loop {
            match self.try_tell("READY=1\nSTATUS=serving") {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(BEHIND).await,
                Err(error) => return tracing::warn!(%error, "cannot notify the service manager"),
                Ok(()) => return,
            }
        }
    }

    /// Reports the progress of the first load. Extends the manager's start timeout by `longer`.
    pub fn loading(&self, Progress { total, left, .. }: Progress, longer: Duration) {
        let (loaded, longer) = (total - left, longer.as_micros());
        self.tell(&format!("EXTEND_TIMEOUT_USEC={longer}\nSTATUS=loading plugins: {loaded} of {total}"));
    }

    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// Reports that another process is the main process now.
    pub fn succeeded_by(&self, process: u32) {
        self.tell(&format!("MAINPID={process}\nSTATUS=taken over"));
    }

    /// Sends the watchdog signal while the threads that serve sockets make progress. Must run as one of their tasks.
    pub async fn keep_alive(self: Arc<Self>, health: Arc<Health>) {
        let Some(watchdog) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        let mut interval = tokio::time::interval((watchdog / 3).max(Duration::from_millis(1)));
        loop {
            interval.tick().await;
            if health.stuck(Instant::now()).is_none() {
                self.tell("WATCHDOG=1");
            }
        }
    }
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&platform::manager_address(path)?)?;
    // A manager that does not read must not block the server.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, manager: &UnixDatagram) -> String {
        let service = config::Service { notify: Some(path.into()), ..config::Service::default() };
        Manager::new(&service).stopping();
        let mut buffer = [0; 100];
        let read = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[test]
    fn manager_is_reached_by_path_or_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        assert_eq!(told(path.to_str().unwrap(), &manager), "STOPPING=1\nSTATUS=draining");
        let name = format!("@distillery-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&platform::manager_address(&name).unwrap()).unwrap();
        assert_eq!(told(&name, &manager), "STOPPING=1\nSTATUS=draining");
    }

    #[tokio::test]
    async fn manager_that_is_behind_still_learns_that_the_server_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let behind = UnixDatagram::bind(&path).unwrap();
        let service = config::Service { notify: path.to_str().map(Into::into), ..config::Service::default() };
        let manager = Arc::new(Manager::new(&service));
        while manager.try_tell("WATCHDOG=1").is_ok() {}
        let notifications = tokio::spawn({
            let manager = manager.clone();
            async move { manager.ready().await }
        });
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = [0; 100];
            loop {
                let read = behind.recv(&mut buffer).unwrap();
                if buffer[..read].starts_with(b"READY=1") {
                    return;
                }
            }
        });
        notifications.await.unwrap();
        read.await.unwrap();
    }

    #[test]
    fn server_works_without_a_manager() {
        Manager::new(&config::Service::default()).stopping();
        let gone = config::Service { notify: Some("/nowhere/notify".into()), ..config::Service::default() };
        Manager::new(&gone).stopping();
    }
}
