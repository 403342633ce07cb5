//! Never ends by itself, and behaves in its cleanup as its argument says.

use std::io;

fn main() -> io::Result<()> {
    let way = std::env::args().nth(1).unwrap_or_default();
    match std::env::var("DISTILLERY_CLEANUP") {
        Ok(reason) => {
            let heard = commands::hear()?;
            commands::say(format!("cleaning up: {reason}, heard {heard:?}\n"))?;
            match way.as_str() {
                "fails" => {
                    eprintln!("the broom is gone");
                    commands::exit(3)
                }
                "fails silently" => commands::exit(3),
                "traps" => std::process::abort(),
                "sleeps" => commands::sleep_on(),
                "spins" => spin(),
                "floods" => loop {
                    commands::say("and another thing\n")?;
                },
                _ => Ok(()),
            }
        }
        Err(_) => {
            eprintln!("words from before");
            commands::say("ready\n")?;
            match way.as_str() {
                "goodbye" => commands::wait_for_the_end(),
                "computes" => spin(),
                "overflows" => loop {
                    commands::say("more and more\n")?;
                },
                _ => commands::sleep_on(),
            }
        }
    }
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}
