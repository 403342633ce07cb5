//! TLS with the server's certificate. The files are reread when they change; an invalid pair changes nothing. This
//! module never knows the contents of a connection.

use arc_swap::ArcSwap;
use distillery_config as config;
use parking_lot::Mutex;
use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig, crypto,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
    },
};

/// The interval of checks. Changed files are read once they are unchanged between two checks, because the two files of
/// a pair are not replaced at the same moment.
const LOOK: Duration = Duration::from_millis(500);

/// The ALPN name of HTTP/2.
pub const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The server side of TLS for connections.
pub struct Terminator {
    files: config::Tls,
    current: ArcSwap<ServerConfig>,
    /// The state of the files when they were last read.
    read: Mutex<Look>,
}

/// The metadata of the two files that changes with their content.
type Look = [Option<(u64, u64, i64, i64, u64)>; 2];

#[derive(Debug, thiserror::Error)]
pub enum BadPair {
    #[error("{} cannot be read: {error}", .path.display())]
    File { path: PathBuf, error: pem::Error },
    #[error("{} has no certificate: it must be in PEM form", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} and {} are no pair: {error}", .certificate.display(), .key.display())]
    NoPair { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Terminator {
    pub fn open(files: config::Tls) -> Result<Self, BadPair> {
        let look = look(&files);
        let current = ArcSwap::new(Arc::new(read(&files)?));
        Ok(Self { files, current, read: Mutex::new(look) })
    }

    /// Returns an acceptor with the current certificate. A connection keeps its initial certificate.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.load_full().into()
    }

    /// Rereads the files, changed or not.
    pub fn reload(&self) {
        *self.read.lock() = look(&self.files);
        match read(&self.files) {
            Ok(new) => {
                self.current.store(Arc::new(new));
                tracing::info!(certificate = %self.files.certificate.display(), "certificate reloaded");
            }
            Err(error) => tracing::error!(%error, "new certificate is invalid; keeping the current one"),
        }
    }

    /// Rereads the files whenever they change, while it is polled.
    pub async fn keep_up(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LOOK);
        let mut before = *self.read.lock();
        loop {
            interval.tick().await;
            // Checks can block, for example on network file systems.
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let now = look(&this.files);
                if now == before && now != *this.read.lock() {
                    this.reload();
                }
                now
            });
            if let Ok(now) = looked.await {
                before = now;
            }
        }
    }
}

fn look(files: &config::Tls) -> Look {
    [&files.certificate, &files.key].map(|file| {
        let it = fs::metadata(file).ok()?;
        Some((it.dev(), it.ino(), it.mtime(), it.mtime_nsec(), it.len()))
    })
}

fn read(files: &config::Tls) -> Result<ServerConfig, BadPair> {
    let bad = |path: &Path| {
        let path = path.to_owned();
        move |error| BadPair::File { path, error }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(bad(&files.certificate))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(bad(&files.certificate))?;
    if chain.is_empty() {
        return Err(BadPair::NoCertificate(files.certificate.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(bad(&files.key))?;
    let no_pair = |error| BadPair::NoPair { certificate: files.certificate.clone(), key: files.key.clone(), error };
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(no_pair)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(no_pair)?;
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(config)
}
