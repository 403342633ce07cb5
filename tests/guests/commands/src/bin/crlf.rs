//! Ends its lines with CR LF, and has a carriage return within one.

fn main() -> std::io::Result<()> {
    commands::say("one\r\ntwo\rthree\r\n\r\nfour\n")
}
