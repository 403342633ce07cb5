//! A Rust program that panics: words on stderr, then a trap.

fn main() {
    println!("about to panic");
    panic!("this was expected");
}
