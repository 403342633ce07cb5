//! Servers that speak TLS, and connections to them.

use crate::{Server, patiently, server::Builder};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Two certificates for localhost, each with its key.
pub const ONE: [&str; 2] = [include_str!("certificates/one.pem"), include_str!("certificates/one.key")];
pub const TWO: [&str; 2] = [include_str!("certificates/two.pem"), include_str!("certificates/two.key")];

/// Returns a server that shows the first certificate.
pub fn builder() -> Builder {
    Server::builder()
        .file("tls/server.pem", ONE[0])
        .file("tls/server.key", ONE[1])
        .set("http.tls_certificate", "tls/server.pem")
        .set("http.tls_key", "tls/server.key")
}

/// Opens a connection to a server that shows exactly this certificate, and offers these protocols.
pub async fn connect(server: &Server, certificate: &str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    roots.add(certificate).expect("a certificate to trust");
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions of TLS");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    patiently("TLS", async {
        let stream = TcpStream::connect(server.address()).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    })
    .await
}

/// Opens a connection over which HTTP/2 is spoken.
pub async fn connect_http2(server: &Server) -> TlsStream<TcpStream> {
    connect(server, ONE[0], &["h2"]).await.expect("TLS")
}
