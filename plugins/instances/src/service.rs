//! A service of a stack, and the state of its container as the engine reports it.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::{collections::BTreeSet, fmt};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    pub service: String,
    pub state: State,
    /// The words of the engine, such as `Up 2 minutes (healthy)`.
    pub status: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Without a health check.
    Running,
    Healthy,
    /// Before the first result of the health check.
    Starting,
    Unhealthy,
    Restarting,
    Paused,
    Created,
    Exited,
    Dead,
    /// Without a container.
    Missing,
}

impl State {
    fn read(state: &str, status: &str) -> Result<Self> {
        Ok(match state {
            "running" if status.ends_with("(healthy)") => Self::Healthy,
            "running" if status.ends_with("(unhealthy)") => Self::Unhealthy,
            "running" if status.ends_with("(health: starting)") || status.ends_with("(starting)") => Self::Starting,
            "running" => Self::Running,
            "restarting" => Self::Restarting,
            "paused" => Self::Paused,
            "created" | "initialized" => Self::Created,
            "exited" | "stopped" => Self::Exited,
            "dead" | "removing" => Self::Dead,
            other => bail!("the engine reports the state {other:?}, which this call does not know"),
        })
    }

    /// Tells whether the service does its work.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Running | Self::Healthy)
    }

    /// Tells whether the processes of the container can write files.
    pub fn is_up(self) -> bool {
        !matches!(self, Self::Created | Self::Exited | Self::Dead | Self::Missing)
    }

    /// Tells whether waiting is of no use.
    pub fn has_failed(self) -> bool {
        matches!(self, Self::Unhealthy | Self::Exited | Self::Dead)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            State::Missing => write!(f, "{}: no container", self.service),
            _ => write!(f, "{}: {}", self.service, self.status),
        }
    }
}

/// Reads the lines of `compose ps`: service, state and the words of the engine.
pub fn read(output: &str) -> Result<Vec<Service>> {
    let read = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (service, state) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let status = words.next().with_context(|| format!("compose ps prints {line:?}, which is not understood"))?;
        Ok(Service { service: service.to_owned(), state: State::read(state, status)?, status: status.to_owned() })
    };
    output.lines().filter(|line| !line.trim().is_empty()).map(read).collect()
}

/// Adds the services that should have a container and have none, and sorts by name.
pub fn complete(mut services: Vec<Service>, expected: &BTreeSet<String>) -> Vec<Service> {
    for name in expected {
        if !services.iter().any(|it| it.service == *name) {
            services.push(Service { service: name.clone(), state: State::Missing, status: String::new() });
        }
    }
    services.sort_by(|a, b| a.service.cmp(&b.service));
    services
}

/// Summary of a whole stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Summary {
    Running,
    Stopped,
    /// Only some services are ready.
    Degraded,
}

impl Summary {
    pub fn of(services: &[Service]) -> Self {
        if !services.iter().any(|it| it.state.is_up()) {
            Self::Stopped
        } else if services.iter().all(|it| it.state.is_ready()) {
            Self::Running
        } else {
            Self::Degraded
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Degraded => "degraded",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_as_the_engine_reports_it() {
        for (line, state) in [
            ("web running Up 2 seconds", State::Running),
            ("web running Up 2 seconds (healthy)", State::Healthy),
            ("web running Up 2 seconds (health: starting)", State::Starting),
            ("web running Up 2 minutes (unhealthy)", State::Unhealthy),
            ("web restarting Restarting (1) 5 seconds ago", State::Restarting),
            ("web exited Exited (137) 2 seconds ago", State::Exited),
            ("web created Created", State::Created),
            ("web paused Up 2 seconds (Paused)", State::Paused),
        ] {
            assert_eq!(read(line).unwrap()[0].state, state, "{line}");
        }
        assert!(read("web odd Up").is_err() && read("web").is_err());
        assert_eq!(read("\n").unwrap(), []);
    }

    #[test]
    fn stack_is_running_only_if_every_service_is_ready() {
        let expected = BTreeSet::from(["database".to_owned(), "web".to_owned()]);
        for (lines, summary) in [
            ("", Summary::Stopped),
            ("web exited Exited (0) 2 seconds ago", Summary::Stopped),
            ("web running Up 2 seconds (healthy)", Summary::Degraded),
            ("web running Up 2 seconds (healthy)\ndatabase restarting Restarting (1) now", Summary::Degraded),
            ("web running Up 2 seconds (healthy)\ndatabase running Up now", Summary::Running),
        ] {
            let services = complete(read(lines).unwrap(), &expected);
            assert_eq!((Summary::of(&services), services.len()), (summary, 2), "{lines}");
        }
    }
}
