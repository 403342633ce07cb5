//! Signatures of plugins, made and checked: Ed25519, in a file next to the manifest and the module.
//!
//! A signature covers the whole plugin: its name, the presence of a manifest, the manifest, the module and the files.
//! Copying a plugin to another name, or removing its manifest, makes the signature invalid. A signature has no date: an
//! old version stays signed until its key is removed from `plugins.keys`.

use distillery_core::call::CallName;
use ed25519_compact::{KeyPair, PublicKey, Seed, Signature};
use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The file name of the signature.
pub const FILE: &str = "plugin.sig";

/// The trusted keys.
pub struct Trusted {
    keys: Vec<PublicKey>,
}

/// The data that a signature covers, and the signature.
#[derive(Debug)]
pub struct Signed {
    pub name: CallName,
    pub has_manifest: bool,
    /// The digest of manifest, module and files.
    pub digest: String,
    /// The content of the signature file.
    pub signature: Option<Vec<u8>>,
}

/// The reason why a plugin is not trusted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Untrusted {
    #[error("it is not signed, and plugins.keys is set: sign it with `distillery sign`, which makes {FILE}")]
    Unsigned,
    #[error(
        "{FILE} is no signature of this plugin by a key in plugins.keys: its name, its manifest, its module or one of its files is \
         another than when it was signed, or the key does not count any more: sign it with `distillery sign`"
    )]
    Invalid,
}

/// The problem with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{}: {error}", .file.display())]
    File { file: PathBuf, error: io::Error },
    #[error("{}: not {what} of Ed25519 in PEM form: make one with `distillery keygen NAME`", .file.display())]
    NotAKey { file: PathBuf, what: &'static str },
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trusted({} keys)", self.keys.len())
    }
}

fn read_key<T>(file: &Path, what: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, KeyError> {
    let text = fs::read_to_string(file).map_err(|error| KeyError::File { file: file.to_owned(), error })?;
    parse(&text).ok_or_else(|| KeyError::NotAKey { file: file.to_owned(), what })
}

impl Trusted {
    /// Reads the public keys in `files`; `None` if there are none.
    pub fn read(files: &[PathBuf]) -> Result<Option<Self>, KeyError> {
        let read = |file: &PathBuf| read_key(file, "a public key", |pem| PublicKey::from_pem(pem).ok());
        let keys = files.iter().map(read).collect::<Result<_, _>>()?;
        Ok((!files.is_empty()).then_some(Self { keys }))
    }

    /// Checks that one of the keys has signed the plugin.
    pub fn check(&self, signed: &Signed) -> Result<(), Untrusted> {
        let written = signed.signature.as_deref().ok_or(Untrusted::Unsigned)?;
        let signature = from_hex(written).and_then(|bytes| Signature::from_slice(&bytes).ok());
        let signature = signature.ok_or(Untrusted::Invalid)?;
        let statement = signed.statement();
        if self.keys.iter().any(|key| key.verify(&statement, &signature).is_ok()) {
            Ok(())
        } else {
            Err(Untrusted::Invalid)
        }
    }
}

impl Signed {
    /// Returns the bytes to sign, with a prefix that no other signed data has.
    fn statement(&self) -> Vec<u8> {
        let Self { name, has_manifest, digest, .. } = self;
        let manifest = if *has_manifest { "with a manifest" } else { "without a manifest" };
        format!("distillery plugin 2\n{name}\n{manifest}\n{digest}\n").into_bytes()
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).map(|it| it as u8)).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A secret key.
pub struct Signer(KeyPair);

/// The error if a signature cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", .file.display())]
pub struct NotWritten {
    file: PathBuf,
    error: io::Error,
}

impl Signer {
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        read_key(file, "a secret key", |pem| Some(Self(KeyPair::from_pem(pem).ok()?)))
    }

    /// Signs the plugin in `directory`, and returns the path of the signature file.
    pub fn sign(&self, plugin: &Signed, directory: &Path) -> Result<PathBuf, NotWritten> {
        let signature = self.0.sk.sign(plugin.statement(), None);
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = directory.join(FILE);
        replace(&file, format!("{hex}\n").as_bytes())?;
        Ok(file)
    }
}

/// Writes a file next to `path` and renames it, so that no reader sees half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), NotWritten> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let done = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    done.map_err(|error| NotWritten { file: path.to_owned(), error })
}

/// Makes a new key pair: the secret key in `NAME.key`, readable by its owner only, and the public key in `NAME.pub`.
/// Never overwrites a file.
pub fn generate(name: &Path) -> io::Result<[PathBuf; 2]> {
    let pair = KeyPair::from_seed(Seed::generate());
    let with = |extension: &str| {
        let mut file = name.as_os_str().to_owned();
        file.push(extension);
        PathBuf::from(file)
    };
    let files = [with(".key"), with(".pub")];
    for (file, pem, mode) in [(&files[0], pair.sk.to_pem(), 0o600), (&files[1], pair.pk.to_pem(), 0o644)] {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        file.write_all(pem.as_bytes())?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        files::FileLimits,
        interpreters::Interpreters,
        manifest,
        source::{Bounds, Source},
    };
    use distillery_core::size::Size;

    const BOUNDS: Bounds = Bounds { module: Size::mib(1), files: FileLimits { count: 10, size: Size::kib(1) } };
    const MODULE: &str = r#"(module (func (export "_start")))"#;

    struct Desk {
        root: tempfile::TempDir,
        signer: Signer,
        trusted: Trusted,
    }

    /// Returns a plugin called `echo`, a key, and the trust in that key.
    fn desk(manifest: Option<&str>) -> Desk {
        let root = tempfile::tempdir().unwrap();
        let plugin = root.path().join("echo");
        fs::create_dir(&plugin).unwrap();
        fs::write(plugin.join("echo.wat"), MODULE).unwrap();
        if let Some(manifest) = manifest {
            fs::write(plugin.join(manifest::FILE), manifest).unwrap();
        }
        let [secret, public] = generate(&root.path().join("team")).unwrap();
        let trusted = Trusted::read(&[public]).unwrap().unwrap();
        Desk { signer: Signer::read(&secret).unwrap(), trusted, root }
    }

    impl Desk {
        fn source_of(&self, name: &str) -> Source {
            Source::read(&self.root.path().join(name), &BOUNDS, &Interpreters::default()).unwrap()
        }

        fn check_of(&self, name: &str) -> Result<(), Untrusted> {
            self.trusted.check(&(&self.source_of(name)).into())
        }

        fn check(&self) -> Result<(), Untrusted> {
            self.check_of("echo")
        }

        fn sign(&self) {
            let source = self.source_of("echo");
            self.signer.sign(&(&source).into(), &source.directory).unwrap();
        }

        fn at(&self, file: &str) -> PathBuf {
            self.root.path().join("echo").join(file)
        }
    }

    #[test]
    fn signed_plugin_is_trusted_until_it_changes() {
        for manifest in [None, Some("description: x\n")] {
            let desk = desk(manifest);
            assert_eq!(desk.check(), Err(Untrusted::Unsigned));
            desk.sign();
            desk.check().unwrap();
            // Signing again changes nothing.
            desk.sign();
            desk.check().unwrap();
            fs::write(desk.at("echo.wat"), format!("{MODULE} ")).unwrap();
            assert_eq!(desk.check(), Err(Untrusted::Invalid));
        }
    }

    #[test]
    fn signature_covers_the_manifest_and_its_absence() {
        let signed = desk(Some("{}\n"));
        signed.sign();
        let signature = fs::read(signed.at(FILE)).unwrap();
        fs::write(signed.at(manifest::FILE), "arguments: [other.py]\n").unwrap();
        assert_eq!(signed.check(), Err(Untrusted::Invalid));
        fs::remove_file(signed.at(manifest::FILE)).unwrap();
        assert_eq!(signed.check(), Err(Untrusted::Invalid));
        fs::remove_file(signed.at(FILE)).unwrap();
        assert_eq!(signed.check(), Err(Untrusted::Unsigned));
        // A manifest is added to a module that was signed without one.
        signed.sign();
        signed.check().unwrap();
        fs::write(signed.at(manifest::FILE), "{}\n").unwrap();
        assert_eq!(signed.check(), Err(Untrusted::Invalid));
        fs::write(signed.at(FILE), signature).unwrap();
        signed.check().unwrap();
    }

    #[test]
    fn signature_covers_the_name() {
        let desk = desk(Some("{}"));
        desk.sign();
        fs::create_dir(desk.root.path().join("other")).unwrap();
        for file in ["echo.wat", manifest::FILE, FILE] {
            fs::copy(desk.at(file), desk.root.path().join("other").join(file)).unwrap();
        }
        assert_eq!(desk.check_of("other"), Err(Untrusted::Invalid));
        desk.check().unwrap();
    }

    #[test]
    fn signature_by_another_key_does_not_count() {
        let (ours, theirs) = (desk(Some("{}")), desk(Some("{}")));
        ours.sign();
        assert_eq!(theirs.trusted.check(&(&ours.source_of("echo")).into()), Err(Untrusted::Invalid));
        fs::write(ours.at(FILE), "no signature").unwrap();
        assert_eq!(ours.check(), Err(Untrusted::Invalid));
    }

    #[test]
    fn file_that_is_no_key_is_refused() {
        let desk = desk(None);
        let error = Trusted::read(&[desk.at("echo.wat")]).unwrap_err().to_string();
        assert!(
            error.ends_with("not a public key of Ed25519 in PEM form: make one with `distillery keygen NAME`"),
            "{error}"
        );
        assert!(Trusted::read(&[]).unwrap().is_none());
    }

    #[test]
    fn secret_key_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let [secret, _] = generate(&root.path().join("team")).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(generate(&root.path().join("team")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
