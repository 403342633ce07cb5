//! Code that the guests share, so that each behaves the same as a preview 1 module and as a 0.2 component.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

/// Ends the process with any status. `std::process::exit` of a component only supports 0 and 1.
pub fn exit(status: u8) -> ! {
    _ = io::stdout().flush();
    #[cfg(target_env = "p2")]
    wasip2::cli::exit::exit_with_code(status);
    std::process::exit(status.into())
}

/// Writes `text` unchanged and flushes it.
pub fn say(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_ref())?;
    stdout.flush()
}

/// Reads one line without its terminator; `None` at the end of the input.
pub fn hear() -> io::Result<Option<String>> {
    let mut line = String::new();
    Ok((io::stdin().read_line(&mut line)? > 0).then(|| line.trim_end_matches('\n').to_owned()))
}

/// Waits for the end of the input.
pub fn wait_for_the_end() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

/// Sleeps for longer than any test waits.
pub fn sleep_on() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
