//! What is different between two configurations, key by key, and which of it a running server can take over.
//!
//! Every key stands here once: a new one does not compile before it is sorted.

use super::{Auth, Cancel, Config, History, Http, Log, Ops, Plugins, ServerLimits, Traces};
use crate::limits::Limits;

/// The keys whose values differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What a running server takes over for the plugins that it loads from then on, other than it did before.
    pub plugins: Vec<&'static str>,
    /// Whether the log has another level.
    pub log_level: bool,
    /// What is other than it was at the start, and has an effect only from the next start on.
    pub restart: Vec<&'static str>,
}

/// Notes each field of a section that differs: `live` ones from those that run, the others from those at the start.
/// Taking the struct apart names all of its fields.
macro_rules! differing {
    ($changes:ident, $prefix:literal, $configs:expr, $Section:ident {
        live: $($live:ident)*; restart: $($restart:ident)*; elsewhere: $($elsewhere:ident)*
    }) => {
        let [started, running, new]: [&$Section; 3] = $configs;
        let $Section { $($live: _,)* $($restart: _,)* $($elsewhere: _,)* } = started;
        $(if running.$live != new.$live { $changes.plugins.push(concat!($prefix, stringify!($live))); })*
        $(if started.$restart != new.$restart { $changes.restart.push(concat!($prefix, stringify!($restart))); })*
        // Where a section has none of a kind.
        let _ = running;
    };
}

impl Changes {
    /// What `new` means for a server that was `started` with one configuration and is `running` with another, as it took
    /// over what it could.
    pub fn between(started: &Config, running: &Config, new: &Config) -> Self {
        let mut changes = Self { log_level: running.log.level != new.log.level, ..Self::default() };
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
            live: grants environment keys; restart: directory watch ready; elsewhere:
        });
        differing!(changes, "limits.", all.map(|it| &it.limits.process), Limits {
            live: memory time cpu output input input_idle line params params_size tables instances resources;
            restart: stack;
            elsewhere: processes
        });
        differing!(changes, "limits.", all.map(|it| &it.limits), ServerLimits {
            live: module;
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
        differing!(changes, "history.", all.map(|it| &it.history), History { live: ; restart: keep max; elsewhere: });
        differing!(changes, "ops.", all.map(|it| &it.ops), Ops { live: ; restart: listen; elsewhere: });
        differing!(changes, "traces.", all.map(|it| &it.traces), Traces { live: ; restart: endpoint one_in; elsewhere: });
        differing!(changes, "log.", all.map(|it| &it.log), Log { live: ; restart: format; elsewhere: level color });
        // The systems of the configuration are those of the first start.
        differing!(changes, "", all, Config {
            live: ; restart: data cache news; elsewhere: http plugins limits cancel auth history ops traces service log systems
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
    /// The bounds of a process that a server takes over which was `started` with other ones: the engine is made for the
    /// largest memory, tables and instances, and for one size of stack.
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
    use crate::size::Size;
    use std::time::Duration;

    fn changed(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    #[test]
    fn what_does_not_differ_is_no_change() {
        let config = Config::default();
        assert_eq!(Changes::between(&config, &config, &config), Changes::default());
    }

    #[test]
    fn a_key_is_taken_over_or_needs_a_restart() {
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
            restart: vec!["http.api", "limits.queue", "data"],
        };
        assert_eq!(Changes::between(&config, &config, &new), expected);
        // What was taken over is no change any more; what needs a restart still does.
        let again = Changes { plugins: vec![], log_level: false, ..expected };
        assert_eq!(Changes::between(&config, &new, &new), again);
        assert!(Changes::between(&config, &new, &config).restart.is_empty());
    }

    #[test]
    fn a_running_engine_has_no_room_for_more_than_it_was_made_for() {
        let started = Config::default();
        let lower = changed(|it| it.limits.process.memory = Size::mib(1));
        assert_eq!(Changes::between(&started, &started, &lower).restart, Vec::<&str>::new());
        assert_eq!(lower.limits_within(&started).memory, Size::mib(1));
        let higher = changed(|it| it.limits.process.memory = Size::mib(1024));
        assert_eq!(Changes::between(&started, &lower, &higher).restart, ["limits.memory"]);
        assert_eq!(higher.limits_within(&started), started.limits.process);
    }
}
