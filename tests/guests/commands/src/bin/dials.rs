//! Tries to connect to the addresses in its parameters, and prints the results.

use std::net::TcpStream;

fn main() {
    for address in std::env::args().skip(1) {
        match TcpStream::connect(&address) {
            Ok(_) => println!("connected"),
            Err(error) => println!("{:?}", error.kind()),
        }
    }
}
