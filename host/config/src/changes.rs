//! Compares two configurations key by key, and sorts the changes into those that a running server can apply and the
//! others.
//!
//! Every key occurs here once: a new key does not compile until it is sorted.

use super::{Auth, Cancel, Config, History, Http, Log, Ops, Plugins, ServerLimits, Traces};
use distillery_core::limits::Limits;

/// The keys whose values differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that a running server applies to the plugins that it loads from then on.
    pub plugins: Vec<&'static str>,
    /// Whether the log level differs.
    pub log_level: bool,
    /// Whether a schedule differs.
    pub schedules: bool,
    /// Keys that differ from the start of the server, and apply only after a restart.
    pub restart: Vec<&'static str>,
}

/// Records each differing field of a section. `live` fields are compared with the running configuration, the others
/// with the one at the start. Destructuring the struct names all of its fields.
macro_rules! differing {
    ($changes:ident, $prefix:literal, $configs:expr, $Section:ident {
        live: $($live:ident)*; restart: $($restart:ident)*; elsewhere: $($elsewhere:ident)*
    }) => {
        let [started, running, new]: [&$Section; 3] = $configs;
        let $Section { $($live: _,)* $($restart: _,)* $($elsewhere: _,)* } = started;
        $(if running.$live != new.$live { $changes.plugins.push(concat!($prefix, stringify!($live))); })*
        $(if started.$restart != new.$restart { $changes.restart.push(concat!($prefix, stringify!($restart))); })*
        // Unused if a section has no live fields.
        let _ = running;
    };
}

impl Changes {
    /// Compares `new` with the configuration at the start and with the running one, which includes applied changes.
    pub fn between(started: &Config, running: &Config, new: &Config) -> Self {
        let mut changes = Self {
            log_level: running.log.level != new.log.level,
            schedules: running.schedules != new.schedules,
            ..Self::default()
        };
        let all = [started, running, new];
        differing!(changes, "http.", all.map(|it| &it.http), Http {
            live: ;
            restart: listen api console origins hosts call_timeout write_timeout ping_interval silence_timeout header_timeout
                max_frame connections connections_per_address trusted_proxies;
            elsewhere: tls
        });
        let [before, after] = [started, new].map(|it| it.http.tls.as_ref());
        for (differs, key) in [
            (before.map(|tls| &tls.certificate) != after.map(|tls| &tls.certificate), "http.tls_certificate"),
            (before.map(|tls| &tls.key) != after.map(|tls| &tls.key), "http.tls_key"),
        ] {
            if differs {
                changes.restart.push(key);
            }
        }
        differing!(changes, "plugins.", all.map(|it| &it.plugins), Plugins {
            live: grants environment keys interpreters; restart: directory watch ready; elsewhere:
        });
        differing!(changes, "limits.", all.map(|it| &it.limits.process), Limits {
            live: memory time cpu output input input_idle line params params_size tables instances resources;
            restart: stack;
            elsewhere: processes
        });
        differing!(changes, "limits.", all.map(|it| &it.limits), ServerLimits {
            live: module files files_size;
            restart: processes processes_per_caller queue queue_time kept_time kept_output kept_processes compile_time
                compile_memory;
            elsewhere: process
        });
        differing!(changes, "cancel.", all.map(|it| &it.cancel), Cancel {
            live: grace_max; restart: grace cleanup_time shutdown_grace takeover_grace; elsewhere:
        });
        differing!(changes, "auth.", all.map(|it| &it.auth), Auth {
            live: ; restart: anonymous session_time secure_cookies forwarded_users; elsewhere:
        });
        differing!(changes, "history.", all.map(|it| &it.history), History { live: ; restart: keep max output output_each; elsewhere: });
        differing!(changes, "ops.", all.map(|it| &it.ops), Ops { live: ; restart: listen; elsewhere: });
        differing!(changes, "traces.", all.map(|it| &it.traces), Traces { live: ; restart: endpoint one_in; elsewhere: });
        differing!(changes, "log.", all.map(|it| &it.log), Log { live: ; restart: format; elsewhere: level color });
        // The systems in the configuration apply to the first start only.
        differing!(changes, "", all, Config {
            live: hooks; restart: data cache news; elsewhere: http plugins limits cancel auth history schedules ops traces
                service log systems
        });
        let (made, wanted) = (&started.limits.process, &new.limits.process);
        for (raised, key) in [
            (wanted.memory > made.memory, "limits.memory"),
            (wanted.tables > made.tables, "limits.tables"),
            (wanted.instances > made.instances, "limits.instances"),
        ] {
            if raised {
                changes.restart.push(key);
            }
        }
        changes
    }
}

impl Config {
    /// Returns the limits that a server `started` with others can apply: the engine is made for the largest memory,
    /// tables and instances, and for one stack size.
    pub fn limits_within(&self, started: &Self) -> Limits {
        let (made, wanted) = (&started.limits.process, &self.limits.process);
        Limits {
            memory: wanted.memory.min(made.memory),
            tables: wanted.tables.min(made.tables),
            instances: wanted.instances.min(made.instances),
            stack: made.stack,
            ..wanted.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distillery_core::size::Size;
    use std::time::Duration;

    fn changed(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    #[test]
    fn equal_configurations_have_no_changes() {
        let config = Config::default();
        assert_eq!(Changes::between(&config, &config, &config), Changes::default());
    }

    #[test]
    fn changed_key_applies_or_needs_a_restart() {
        let config = Config::default();
        let new = changed(|it| {
            it.limits.process.time = Duration::from_secs(1);
            it.limits.module = Size::kib(1);
            it.http.api = true;
            it.limits.queue = 1;
            it.log.level = "debug".into();
            it.data = "elsewhere".into();
        });
        let expected = Changes {
            plugins: vec!["limits.time", "limits.module"],
            log_level: true,
            schedules: false,
            restart: vec!["http.api", "limits.queue", "data"],
        };
        assert_eq!(Changes::between(&config, &config, &new), expected);
        // An applied change is no longer one; a change that needs a restart still is.
        let again = Changes { plugins: vec![], log_level: false, schedules: false, ..expected };
        assert_eq!(Changes::between(&config, &new, &new), again);
        assert!(Changes::between(&config, &new, &config).restart.is_empty());
    }

    #[test]
    fn limits_of_a_running_engine_cannot_be_exceeded() {
        let started = Config::default();
        let lower = changed(|it| it.limits.process.memory = Size::mib(1));
        assert_eq!(Changes::between(&started, &started, &lower).restart, Vec::<&str>::new());
        assert_eq!(lower.limits_within(&started).memory, Size::mib(1));
        let higher = changed(|it| it.limits.process.memory = Size::mib(1024));
        assert_eq!(Changes::between(&started, &lower, &higher).restart, ["limits.memory"]);
        assert_eq!(higher.limits_within(&started), started.limits.process);
    }
}
