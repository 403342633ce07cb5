//! A Rust program that panics: a message on stderr, then a trap.

fn main() {
    println!("about to panic");
    panic!("this was expected");
}
