//! The last resort against a test that hangs, although all waits use [`patiently`]: the test is named, and the whole
//! test program ends, instead of running for ever.
//!
//! [`patiently`]: crate::patiently

use std::{
    collections::HashMap,
    io::{self, Write},
    process::abort,
    sync::{LazyLock, Mutex},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

/// Time limit of a test. Tests that build with a compiler take minutes.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The running tests by their threads, each with its deadline.
static RUNNING: LazyLock<Mutex<HashMap<ThreadId, (String, Instant)>>> = LazyLock::new(|| {
    thread::spawn(look);
    Mutex::default()
});

thread_local! {
    static THIS: This = This::begun();
}

/// The test of this thread, from its first use of the harness until its end.
struct This;

impl This {
    fn begun() -> Self {
        let thread = thread::current();
        // Rust's harness names the thread of a test after the test. Other threads belong to a test, or run all of them.
        if let Some(name) = thread.name().filter(|name| *name != "main" && !name.contains('-')) {
            let mut running = RUNNING.lock().expect("no thread panics while it holds the lock");
            running.insert(thread.id(), (name.to_owned(), Instant::now() + LONGEST));
        }
        Self
    }
}

impl Drop for This {
    fn drop(&mut self) {
        RUNNING.lock().expect("no thread panics while it holds the lock").remove(&thread::current().id());
    }
}

/// Gives the test of this thread a deadline, unless it has one.
pub(crate) fn begin() {
    THIS.with(|_| {});
}

/// Removes the deadline of the test of this thread.
pub fn lift() {
    begin();
    RUNNING.lock().expect("no thread panics while it holds the lock").remove(&thread::current().id());
}

#[expect(clippy::disallowed_methods, reason = "a hanging test has no event to wait for")]
fn look() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = Instant::now();
        let running = RUNNING.lock().expect("no thread panics while it holds the lock");
        let late: Vec<_> = running.values().filter(|(_, due)| *due < now).map(|(name, _)| name.as_str()).collect();
        if !late.is_empty() {
            // Not `eprintln!`, whose output is captured for the first test that called.
            _ = writeln!(io::stderr(), "given up after {} minutes: {}", LONGEST.as_secs() / 60, late.join(", "));
            abort();
        }
    }
}
