//! `instance_log SLUG [LINES]`: prints the last lines of the logs of an instance, and follows them until it is
//! cancelled.

#[cfg(target_family = "wasm")]
fn main() -> std::process::ExitCode {
    use instances::{Mount, action::log::log, full, guest::Guest};
    use std::{env, process::ExitCode};

    let run = || {
        let mut arguments = env::args().skip(1);
        let slug = arguments.next().unwrap_or_default().parse()?;
        let lines = arguments.next().unwrap_or_else(|| "100".to_owned());
        log(&Mount::read_only("/instances"), &mut Guest::new()?, &slug, &lines)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", full::explained(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_family = "wasm"))]
fn main() {
    eprintln!("this is a call: build it for wasm32-wasip2 and run it on a server");
}
