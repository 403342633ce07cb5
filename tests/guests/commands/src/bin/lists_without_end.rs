//! Lists the directory `/large` over and over, and says `listing` when it begins.

use std::fs;

fn main() {
    println!("listing");
    loop {
        let count = fs::read_dir("/large").map(Iterator::count);
        assert!(count.is_ok_and(|count| count > 0));
    }
}
