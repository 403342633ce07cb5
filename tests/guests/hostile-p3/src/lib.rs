//! Attacks that only a WASI 0.3 component can try, or in a different way: `hostile-p3 streams|sleep|connect
//! ADDRESS|resolve`.

use wasip3::{
    cli::{environment, stdout},
    clocks::monotonic_clock,
    sockets::{
        ip_name_lookup::resolve_addresses,
        types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket},
    },
};

struct Hostile;

wasip3::cli::command::export!(Hostile);

impl wasip3::exports::cli::run::Guest for Hostile {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        match arguments.get(1).map(String::as_str) {
            Some("streams") => hoard_streams(),
            Some("sleep") => {
                say("asleep\n").await;
                monotonic_clock::wait_for(u64::MAX).await;
                monotonic_clock::wait_until(u64::MAX).await;
                Ok(())
            }
            Some("connect") => {
                let port = arguments.get(2).and_then(|it| it.rsplit(':').next()?.parse().ok()).ok_or(())?;
                let address = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) });
                match TcpSocket::create(IpAddressFamily::Ipv4) {
                    Ok(socket) => tell(socket.connect(address).await).await,
                    refused => tell(refused).await,
                }
            }
            Some("resolve") => tell(resolve_addresses("localhost".into()).await).await,
            _ => Err(()),
        }
    }
}

/// Creates streams forever, and keeps both ends of each.
fn hoard_streams() -> Result<(), ()> {
    let mut hoard = Vec::new();
    loop {
        hoard.push(wasip3::wit_stream::new::<u8>());
    }
}

async fn tell<T, E>(tried: Result<T, E>) -> Result<(), ()> {
    say(if tried.is_ok() { "open\n" } else { "refused\n" }).await;
    Ok(())
}

async fn say(text: &str) {
    let (mut output, sent) = wasip3::wit_stream::new();
    let _written = stdout::write_via_stream(sent);
    output.write_all(text.as_bytes().to_vec()).await;
}
