//! Calls for the conformance tests of the Model Context Protocol: which one is its name.

use std::{
    env,
    io::{Write, stdin, stdout},
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

/// The smallest PNG, and a WAV file without samples.
const IMAGE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0cIDATx\x9cc\xf8\xcf\xc0\0\0\x03\x01\x01\0\xc9\xfe\x92\xef\0\0\0\0IEND\xaeB`\x82";
const SOUND: &[u8] = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80>\0\0\x02\0\x10\0data\0\0\0\0";

fn main() -> ExitCode {
    let mut arguments = env::args();
    let name = arguments.next().unwrap_or_default();
    match name.as_str() {
        "test_simple_text" => print!("This is a simple text response for testing."),
        "test_image_content" => show(IMAGE),
        "test_audio_content" => show(SOUND),
        "test_tool_with_logging" => {
            for step in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                eprintln!("{step}");
                sleep(Duration::from_millis(50));
            }
            println!("done");
        }
        "test_tool_with_progress" => {
            for part in [0, 50, 100] {
                println!("{part} of 100");
                stdout().flush().expect("stdout is open");
                sleep(Duration::from_millis(50));
            }
        }
        "test_elicitation" => {
            print!("{} ", arguments.next().unwrap_or_default());
            stdout().flush().expect("stdout is open");
            let mut answer = String::new();
            let there_is = stdin().read_line(&mut answer).expect("stdin is open") > 0;
            println!("User response: {}", if there_is { answer.trim_end() } else { "none" });
        }
        _ => {
            eprintln!("This tool intentionally returns an error for testing");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn show(bytes: &[u8]) {
    stdout().write_all(bytes).expect("stdout is open");
}
