//! The server as the tests start it: the same `main` as the program that is shipped.

fn main() -> std::process::ExitCode {
    distillery::cli::main()
}
