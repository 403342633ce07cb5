//! Settings from a service manager, in the environment variables of systemd.

use std::time::Duration;

/// Settings from the service manager; environment only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The socket for status notifications.
    pub notify: Option<String>,
    /// The watchdog's timeout.
    pub watchdog: Option<Duration>,
    /// The names of the inherited listening sockets, beginning with file descriptor 3.
    pub sockets: Vec<String>,
}

impl Service {
    /// Reads the variables for the process with this ID; a child process inherits them and must ignore them.
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
            // There are never more, and an invalid number must not cause a long list.
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
    fn variables_of_another_process_are_ignored() {
        let sockets = |pid| service(&[("LISTEN_PID", pid), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "http")]).sockets;
        assert_eq!((sockets("7"), sockets("8")), (vec!["http".to_owned(), String::new()], vec![]));
        let watchdog = |pid| service(&[("WATCHDOG_PID", pid), ("WATCHDOG_USEC", "30000000")]).watchdog;
        assert_eq!((watchdog("7"), watchdog("8")), (Some(Duration::from_secs(30)), None));
    }

    #[test]
    fn nonsense_is_ignored() {
        let odd = [("LISTEN_PID", "7"), ("LISTEN_FDS", "-1"), ("WATCHDOG_USEC", "0"), ("NOTIFY_SOCKET", "relative")];
        assert_eq!(service(&odd), Service::default());
        assert_eq!(service(&[]), Service::default());
        assert_eq!(service(&[("NOTIFY_SOCKET", "@abstract")]).notify.as_deref(), Some("@abstract"));
    }
}
