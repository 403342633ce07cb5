fn main() -> std::process::ExitCode {
    distillery::main()
}
