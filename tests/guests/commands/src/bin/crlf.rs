//! Ends its lines as Windows does, and has a carriage return in the middle of one.

fn main() -> std::io::Result<()> {
    commands::say("one\r\ntwo\rthree\r\n\r\nfour\n")
}
