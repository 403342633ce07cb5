//! What a service manager tells a server that it starts, in the variables that systemd has made usual.

use std::time::Duration;

/// What whoever started the server wants of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The socket where it is told how the server is.
    pub notify: Option<String>,
    /// How long the server may be silent there.
    pub watchdog: Option<Duration>,
    /// The names of the listening sockets that the server was given, the first of which is file 3.
    pub sockets: Vec<String>,
}

impl Service {
    /// What is meant for the process with this number: a child inherits the variables and is not meant.
    pub(super) fn read(environment: &[(String, String)], process: u32) -> Self {
        let get = |wanted: &str| environment.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let meant = |name: &str| get(name).is_some_and(|it| it.parse() == Ok(process));
        let watchdog = get("WATCHDOG_USEC").and_then(|it| it.parse().ok()).filter(|it| *it > 0);
        let watchdog = watchdog.filter(|_| get("WATCHDOG_PID").is_none() || meant("WATCHDOG_PID"));
        let sockets = get("LISTEN_FDS").filter(|_| meant("LISTEN_PID")).and_then(|it| it.parse().ok());
        let mut names = get("LISTEN_FDNAMES").unwrap_or_default().split(':');
        Self {
            notify: get("NOTIFY_SOCKET").filter(|it| it.starts_with(['/', '@'])).map(Into::into),
            watchdog: watchdog.map(Duration::from_micros),
            // Nobody has more, and a wrong number must not make a long list.
            sockets: (0..sockets.unwrap_or(0).min(16)).map(|_: u32| names.next().unwrap_or_default().into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(environment: &[(&str, &str)]) -> Service {
        let all: Vec<_> = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Service::read(&all, 7)
    }

    #[test]
    fn what_is_meant_for_another_process_is_not_looked_at() {
        let sockets = |pid| service(&[("LISTEN_PID", pid), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "http")]).sockets;
        assert_eq!((sockets("7"), sockets("8")), (vec!["http".to_owned(), String::new()], vec![]));
        let watchdog = |pid| service(&[("WATCHDOG_PID", pid), ("WATCHDOG_USEC", "30000000")]).watchdog;
        assert_eq!((watchdog("7"), watchdog("8")), (Some(Duration::from_secs(30)), None));
    }

    #[test]
    fn nonsense_is_nothing() {
        let odd = [("LISTEN_PID", "7"), ("LISTEN_FDS", "-1"), ("WATCHDOG_USEC", "0"), ("NOTIFY_SOCKET", "relative")];
        assert_eq!(service(&odd), Service::default());
        assert_eq!(service(&[]), Service::default());
        assert_eq!(service(&[("NOTIFY_SOCKET", "@abstract")]).notify.as_deref(), Some("@abstract"));
    }
}
