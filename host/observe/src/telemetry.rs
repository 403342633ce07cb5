//! The log of the server: its destination and its format. Other modules decide what is logged.
//!
//! Lines go to stderr through a bounded queue and a thread of their own. A slow or stopped reader of the log must not
//! stop a socket: when the queue is full, lines are dropped and counted.

mod lines;

use anyhow::Context;
use distillery_config::{Log, LogFormat};
use lines::JsonLines;
use std::io::{self, IsTerminal};
use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::MakeExt,
    fmt::{self, format::debug_fn},
    layer::SubscriberExt,
    reload,
};

/// Maximum number of lines that wait for the reader of the log: some megabytes, seconds of a busy server.
const QUEUE: usize = 16_384;

/// A target that is off unless `log.level` names it. This library warns of actions of guests, each time. Any guest
/// could fill the log with such lines, and displace others.
const QUIET: &str = "wasmtime_wasi=off";

/// The handle of the running log. Dropping it flushes the queue, so it must be dropped last.
#[must_use = "the log ends when this is dropped"]
pub struct Telemetry {
    level: Level,
    dropped: ErrorCounter,
    flush: Option<WorkerGuard>,
}

/// A handle that changes the log level at run time.
#[derive(Clone)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Applies the level of `log` from now on.
    pub fn set(&self, log: &Log) -> anyhow::Result<()> {
        self.0.reload(filter(log)?).context("the log has ended")
    }
}

/// The counter of dropped lines.
#[derive(Clone, Debug)]
pub struct Dropped(ErrorCounter);

impl Dropped {
    pub fn lines(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

/// Starts to log this process to stderr, as `log` says. Call once.
pub fn start(log: &Log) -> anyhow::Result<Telemetry> {
    let ansi = log.color && io::stderr().is_terminal();
    let (queue, dropped, flush) = queue(io::stderr(), QUEUE);
    let (subscriber, level) = subscriber(log, ansi, queue)?;
    tracing::subscriber::set_global_default(subscriber).context("the log was started before")?;
    Ok(Telemetry { level, dropped, flush: Some(flush) })
}

impl Telemetry {
    pub fn level(&self) -> Level {
        self.level.clone()
    }

    pub fn dropped(&self) -> Dropped {
        Dropped(self.dropped.clone())
    }

    /// Returns how many lines were dropped because the reader of the log was too slow.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        drop(self.flush.take());
        let dropped = self.dropped_lines();
        if dropped > 0 {
            // The queue is closed, so this line goes directly to stderr. A reader that is gone is not a failure.
            let _ = io::Write::write_fmt(
                &mut io::stderr(),
                format_args!("distillery: {dropped} log lines were dropped: the reader of stderr is too slow\n"),
            );
        }
    }
}

fn queue(writer: impl io::Write + Send + 'static, lines: usize) -> (NonBlocking, ErrorCounter, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines).thread_name("log");
    let (queue, guard) = builder.finish(writer);
    let dropped = queue.error_counter();
    (queue, dropped, guard)
}

fn filter(log: &Log) -> anyhow::Result<EnvFilter> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{}", log.level));
    filter.with_context(|| format!("log.level: {:?}", log.level))
}

fn subscriber<W>(log: &Log, ansi: bool, writer: W) -> anyhow::Result<(impl Subscriber + Send + Sync, Level)>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, level) = reload::Layer::new(filter(log)?);
    let layer: Box<dyn Layer<_> + Send + Sync> = match log.format {
        LogFormat::Text => {
            let fields = debug_fn(lines::field).delimited(" ");
            fmt::layer().with_writer(writer).with_ansi(ansi).compact().fmt_fields(fields).boxed()
        }
        LogFormat::Json => {
            let layer = fmt::layer().with_writer(JsonLines(writer)).with_ansi(ansi);
            layer.json().flatten_event(true).with_span_list(false).boxed()
        }
    };
    Ok((tracing_subscriber::registry().with(filter).with(layer), Level(level)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, mpsc};

    /// A writer that tests can read.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// Returns the log of two events with different levels.
    fn logged(format: LogFormat, level: &str, ansi: bool) -> String {
        let written = Written::default();
        let (queue, _, flush) = queue(written.clone(), 100);
        let log = Log { format, level: level.to_owned(), ..Log::default() };
        tracing::subscriber::with_default(subscriber(&log, ansi, queue).unwrap().0, || {
            tracing::info_span!("call", process = "p1").in_scope(|| {
                tracing::info!(port = 8080, "serving");
                tracing::debug!("a detail");
            });
        });
        drop(flush);
        written.text()
    }

    #[test]
    fn level_can_change_at_run_time() {
        let written = Written::default();
        let (queue, _, flush) = queue(written.clone(), 100);
        let (subscriber, level) = subscriber(&Log::default(), false, queue).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            for (number, level_now) in ["info", "debug", "info"].into_iter().enumerate() {
                level.set(&Log { level: level_now.into(), ..Log::default() }).unwrap();
                tracing::debug!(number, "a detail");
            }
            assert!(level.set(&Log { level: "info,=".into(), ..Log::default() }).is_err());
        });
        drop(flush);
        let text = written.text();
        assert!(text.lines().count() == 1 && text.contains("number=1"), "{text}");
    }

    #[test]
    fn text_line_has_its_time_level_and_fields() {
        let text = logged(LogFormat::Text, "info", false);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("20") && text.contains("Z  INFO "), "{text}");
        for part in ["serving", "port=8080", "process=\"p1\""] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\x1b'), "{text}");
        assert!(logged(LogFormat::Text, "info", true).contains('\x1b'));
    }

    #[test]
    fn json_line_is_one_flat_object() {
        let text = logged(LogFormat::Json, "info", false);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "serving");
        assert_eq!(line["port"], 8080);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["process"], "p1");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn values_from_outside_are_escaped_in_every_format() {
        let harmful = "a\n2026 INFO forged\x1b[2J\u{9b}2J\u{202e}";
        for (format, ansi) in [(LogFormat::Text, false), (LogFormat::Text, true), (LogFormat::Json, false)] {
            let written = Written::default();
            let (queue, _, flush) = queue(written.clone(), 100);
            let log = Log { format, ..Log::default() };
            tracing::subscriber::with_default(subscriber(&log, ansi, queue).unwrap().0, || {
                tracing::info!(shown = %harmful, quoted = harmful, "it said {harmful}");
            });
            drop(flush);
            let text = written.text();
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            // The only sequences left are those of the log itself.
            let own = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[32m"];
            let rest = own.into_iter().fold(text.replace('\n', ""), |text, own| text.replace(own, ""));
            assert!(!rest.contains(distillery_core::harmless::is_harmful), "{rest:?}");
            if format == LogFormat::Json {
                let line: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!((line["shown"].as_str(), line["quoted"].as_str()), (Some(harmful), Some(harmful)));
            }
        }
    }

    #[test]
    fn level_decides_which_events_are_logged() {
        assert_eq!(logged(LogFormat::Text, "off", false), "");
        assert_eq!(logged(LogFormat::Text, "debug", false).lines().count(), 2);
        assert_eq!(logged(LogFormat::Text, "error,distillery_observe::telemetry=debug", false).lines().count(), 2);
        assert_eq!(logged(LogFormat::Text, "debug,distillery=off", false), "");
    }

    #[test]
    fn events_that_guests_control_are_logged_only_on_request() {
        let logged = |level: &str| {
            let written = Written::default();
            let (queue, _, flush) = queue(written.clone(), 100);
            let log = Log { level: level.to_owned(), ..Log::default() };
            tracing::subscriber::with_default(subscriber(&log, false, queue).unwrap().0, || {
                tracing::warn!(target: "wasmtime_wasi::p1", "not implemented");
                tracing::warn!("something else");
            });
            drop(flush);
            written.text().lines().count()
        };
        assert_eq!((logged("info"), logged("info,wasmtime_wasi=warn"), logged("off")), (1, 2, 0));
    }

    #[test]
    fn stopped_reader_costs_lines_and_no_time() {
        /// A writer that blocks until it is released.
        struct Stuck(mpsc::Receiver<()>);

        impl io::Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (go, wait) = mpsc::channel();
        let (queue, dropped, _flush) = queue(Stuck(wait), 10);
        tracing::subscriber::with_default(subscriber(&Log::default(), false, queue).unwrap().0, || {
            (0..100).for_each(|n| tracing::info!(n, "one of many"));
        });
        assert!((89..=90).contains(&dropped.dropped_lines()), "{}", dropped.dropped_lines());
        drop(go);
    }
}
