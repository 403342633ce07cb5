//! The last resort against a test that hangs, though everything that it waits for is waited for [`patiently`]: it is
//! named, and the whole program of tests ends, instead of running until somebody wonders.
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

/// How long a test may take. Those that build with a compiler take minutes.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The tests that run, by their threads, and when each is late.
static RUNNING: LazyLock<Mutex<HashMap<ThreadId, (String, Instant)>>> = LazyLock::new(|| {
    thread::spawn(look);
    Mutex::default()
});

thread_local! {
    static THIS: This = This::begun();
}

/// The test of this thread, from its first use of the harness until it is over.
struct This;

impl This {
    fn begun() -> Self {
        let thread = thread::current();
        // The harness of Rust names the thread of a test like it. Other threads belong to a test, or run all of them.
        if let Some(name) = thread.name().filter(|name| *name != "main" && !name.contains('-')) {
            let mut running = RUNNING.lock().expect("nobody panics with it");
            running.insert(thread.id(), (name.to_owned(), Instant::now() + LONGEST));
        }
        Self
    }
}

impl Drop for This {
    fn drop(&mut self) {
        RUNNING.lock().expect("nobody panics with it").remove(&thread::current().id());
    }
}

/// Lets the test of this thread have a deadline, unless it has one.
pub(crate) fn begin() {
    THIS.with(|_| {});
}

/// Leaves the test of this thread as much time as it wants.
pub fn lift() {
    begin();
    RUNNING.lock().expect("nobody panics with it").remove(&thread::current().id());
}

#[expect(clippy::disallowed_methods, reason = "nothing happens that could be waited for: that is the point")]
fn look() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = Instant::now();
        let running = RUNNING.lock().expect("nobody panics with it");
        let late: Vec<_> = running.values().filter(|(_, due)| *due < now).map(|(name, _)| name.as_str()).collect();
        if !late.is_empty() {
            // Not as `eprintln!`, whose words are kept for the test that was the first to call.
            _ = writeln!(io::stderr(), "given up after {} minutes: {}", LONGEST.as_secs() / 60, late.join(", "));
            abort();
        }
    }
}
