//! Guests that try to reach files, names, the network and the environment. Without grants, none of these exist.

use distillery_tests::{Guest, Server, patiently};
use tokio::net::{TcpListener, UdpSocket};

#[tokio::test]
async fn no_path_leads_out_of_the_sandbox() {
    let server = Server::builder().both("reads_files").start().await;
    let outside = tempfile::TempDir::new().expect("a directory of the host");
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "secret").expect("a file of the host");
    let link = outside.path().join("link");
    std::os::unix::fs::symlink(&secret, &link).expect("a link of the host");
    let own = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    let paths = [
        own(outside.path()),
        own(&secret),
        own(&link),
        format!("../../../../../../..{}", own(&secret)),
        own(&server.plugins()),
        "/".to_owned(),
        "/etc/passwd".to_owned(),
        "/proc/self/environ".to_owned(),
        "/proc/1/root".to_owned(),
        "/dev/null".to_owned(),
        "/tmp".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "plugins".to_owned(),
        "distillery.yaml".to_owned(),
        String::new(),
        "a/".repeat(3000),
    ];
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    for call in ["reads_files", "reads_files.module"] {
        assert_eq!(server.call(call, &paths).await.finish().await.success(), [""; 0], "{call}");
    }
    assert_eq!(std::fs::read_dir(&outside).expect("it is still there").count(), 2);
    assert_eq!(std::fs::read_to_string(secret).expect("it is still there"), "secret");
}

#[tokio::test]
async fn no_file_descriptor_is_a_directory_or_a_socket() {
    let server = Server::with([Guest::hostile("open_by_number")]).await;
    server.call("open_by_number", &[]).await.finish().await.success();
}

#[tokio::test]
async fn network_is_closed() {
    let (address, listener, packets) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        // Another test can have the same port for packets.
        if let Ok(packets) = UdpSocket::bind(address).await {
            break (address, listener, packets);
        }
    };
    let server = Server::builder()
        .guest(Guest::component("connects"))
        .guest_as("hostile", Guest::component3("hostile"))
        .start()
        .await;
    let lines = server.call("connects", &[&address.to_string()]).await.finish().await.success();
    let ways = ["tcp connect", "tcp listen", "udp bind", "udp send", "resolve", "resolve without std"];
    assert_eq!(lines, ways.map(|way| format!("{way}: refused")));
    for params in [&["connect", &address.to_string()][..], &["resolve"]] {
        assert_eq!(server.call("hostile", params).await.finish().await.success(), ["refused"], "{params:?}");
    }
    // An earlier connection of the guest would be the first one here.
    let own = tokio::net::TcpStream::connect(address).await.expect("the port is open to the host");
    let (_, first) = patiently("a connection", listener.accept()).await.expect("it is taken");
    assert_eq!(first, own.local_addr().expect("an address"));
    assert!(packets.try_recv_from(&mut [0; 16]).is_err());
}
