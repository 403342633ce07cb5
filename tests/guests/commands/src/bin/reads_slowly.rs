//! Reads so many bytes at a time, pauses for so many milliseconds, and says at the end how many it has read.

use std::{
    io::{self, Read},
    thread,
    time::Duration,
};

fn main() -> io::Result<()> {
    let argument = |at| std::env::args().nth(at).and_then(|it| it.parse().ok()).unwrap_or(1);
    let mut piece = vec![0; argument(1)];
    commands::say("ready\n")?;
    let mut all = 0;
    loop {
        thread::sleep(Duration::from_millis(argument(2) as u64));
        match io::stdin().lock().read(&mut piece)? {
            0 => return commands::say(format!("read {all}\n")),
            read => all += read,
        }
    }
}
