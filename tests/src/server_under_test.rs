//! The server that the tests start: the same `main` as the shipped program.

fn main() -> std::process::ExitCode {
    distillery::main()
}
