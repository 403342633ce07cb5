//! `connects ADDRESS`: tries every way to connect to a listening address, and prints each that was allowed.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use wasip2::sockets::{instance_network::instance_network, ip_name_lookup::resolve_addresses};

fn main() {
    let address: SocketAddr = std::env::args().nth(1).and_then(|it| it.parse().ok()).expect("an address");
    tell("tcp connect", TcpStream::connect(address));
    tell("tcp listen", TcpListener::bind("127.0.0.1:0"));
    tell("udp bind", UdpSocket::bind("127.0.0.1:0"));
    tell("udp send", UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"hello", address)));
    tell("resolve", ("localhost", address.port()).to_socket_addrs());
    tell("resolve without std", look_up());
}

fn look_up() -> Result<(), String> {
    let lookup = resolve_addresses(&instance_network(), "localhost").map_err(|error| format!("{error:?}"))?;
    lookup.subscribe().block();
    lookup.resolve_next_address().map(drop).map_err(|error| format!("{error:?}"))
}

fn tell<T, E>(what: &str, tried: Result<T, E>) {
    match tried {
        Ok(_) => println!("{what}: open"),
        Err(_) => println!("{what}: refused"),
    }
}
