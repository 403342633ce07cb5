//! A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.

use std::{
    env,
    io::{self, Write},
};

fn main() -> io::Result<()> {
    // A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
    // plugin.yaml asks for that with `cleanup: true`.
    if let Ok(reason) = env::var("DISTILLERY_CLEANUP") {
        println!("cleaning up after: {reason}");
        return Ok(());
    }

    // Arguments: the call's own name, then its parameters.
    let name = match env::args().nth(1) {
        Some(name) => name,
        None => ask("What is your name? ")?,
    };
    println!("hello {name}");
    for line in io::stdin().lines() {
        match line?.as_str() {
            "end" => return Ok(()),
            // A failure. What it had written to stderr would follow the status in the message.
            "fail" => exit(3),
            line => println!("echo: {line}"),
        }
    }

    // The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
    println!("goodbye");
    Ok(())
}

/// A prompt needs no line break: it is sent when the program waits for input.
fn ask(question: &str) -> io::Result<String> {
    print!("{question}");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim_end_matches('\n').to_owned())
}

/// `std::process::exit` of a component knows only success and failure; this keeps the number.
fn exit(status: u8) {
    wasip2::cli::exit::exit_with_code(status);
}
