//! Who vouches for a plugin: Ed25519 signatures of modules and manifests, made and checked.
//!
//! A module bears its signature inside itself, in the form of the WebAssembly module signatures proposal, so that other
//! tools can make and check it. A manifest decides what its module is started with and what it asks for; its signature
//! therefore covers both together, and lies beside it in [`FILE`].

use super::{discover::Source, manifest};
use ed25519_compact::{KeyPair, PublicKey, Seed, Signature};
use std::{
    collections::HashSet,
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use wasmsign2::{Module, PublicKeySet};

/// The file of the signature of a manifest with its module.
pub const FILE: &str = "plugin.yaml.sig";

/// The keys whose signatures count.
pub struct Trusted {
    keys: Vec<PublicKey>,
    modules: PublicKeySet,
}

/// Why a plugin is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("its module is text, which bears no signature: make a .wasm of it, and sign that with `distillery sign`")]
    Text,
    #[error("its module is not signed, and plugins.keys is set: sign it with `distillery sign`")]
    Unsigned,
    #[error(
        "the signature of its module is none of a key in plugins.keys, or the module was changed after it was signed"
    )]
    Module,
    #[error(
        "{} is not signed, and plugins.keys is set: sign it with `distillery sign`, which makes {FILE}",
        manifest::FILE
    )]
    ManifestUnsigned,
    #[error(
        "{FILE} is no signature by a key in plugins.keys, or {} or the module was changed after it was signed",
        manifest::FILE
    )]
    Manifest,
}

/// What is wrong with the file of a key.
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
    /// The public keys in `files`; nothing without any.
    pub fn read(files: &[PathBuf]) -> Result<Option<Self>, KeyError> {
        let mut trusted = Self { keys: Vec::new(), modules: PublicKeySet::empty() };
        for file in files {
            let (key, module_key) = read_key(file, "a public key", |pem| {
                Some((PublicKey::from_pem(pem).ok()?, wasmsign2::PublicKey::from_pem(pem).ok()?))
            })?;
            if !trusted.keys.contains(&key) {
                trusted.keys.push(key);
                trusted.modules.pks.insert(module_key);
            }
        }
        Ok((!files.is_empty()).then_some(trusted))
    }

    /// Whether one of the keys has signed all of `source`.
    pub fn check(&self, source: &Source) -> Result<(), Untrusted> {
        if !source.module_bytes.starts_with(b"\0asm") {
            return Err(Untrusted::Text);
        }
        match self.modules.verify(&mut source.module_bytes.as_slice(), None) {
            Ok(keys) if !HashSet::is_empty(&keys) => {}
            Err(wasmsign2::WSError::NoSignatures) => return Err(Untrusted::Unsigned),
            _ => return Err(Untrusted::Module),
        }
        if !source.has_manifest {
            return Ok(());
        }
        let written = source.signature.as_deref().ok_or(Untrusted::ManifestUnsigned)?;
        let signature = from_hex(written).and_then(|bytes| Signature::from_slice(&bytes).ok());
        let signature = signature.ok_or(Untrusted::Manifest)?;
        let signed = statement(&source.digest);
        if self.keys.iter().any(|key| key.verify(&signed, &signature).is_ok()) {
            Ok(())
        } else {
            Err(Untrusted::Manifest)
        }
    }
}

/// What the signature of a manifest signs: nothing else that is ever signed begins like it.
fn statement(digest: &str) -> Vec<u8> {
    format!("distillery plugin\n{digest}\n").into_bytes()
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).map(|it| it as u8)).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A secret key.
pub struct Signer {
    pair: KeyPair,
    module_key: wasmsign2::SecretKey,
}

/// Why a plugin cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error("cannot sign the module: {0}")]
    Module(wasmsign2::WSError),
    #[error("cannot write {}: {error}", .file.display())]
    Write { file: PathBuf, error: io::Error },
}

impl Signer {
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        read_key(file, "a secret key", |pem| {
            let pair = KeyPair::from_pem(pem).ok()?;
            Some(Self { module_key: wasmsign2::SecretKey::from_pem(pem).ok()?, pair })
        })
    }

    /// Signs the module of `source` and, where it has one, its manifest. Gives the files that were written.
    pub fn sign(&self, source: &Source) -> Result<Vec<PathBuf>, SignError> {
        if !source.module_bytes.starts_with(b"\0asm") {
            return Err(Untrusted::Text.into());
        }
        let module = Module::deserialize(&mut source.module_bytes.as_slice()).map_err(SignError::Module)?;
        let signed = match self.module_key.sign_multi(module, None, false, false) {
            Ok((module, _)) => {
                let mut bytes = Vec::new();
                module.serialize(&mut bytes).map_err(SignError::Module)?;
                bytes
            }
            // It bears this very signature already.
            Err(wasmsign2::WSError::DuplicateSignature) => source.module_bytes.clone(),
            Err(error) => return Err(SignError::Module(error)),
        };
        let digest = source.digest_with(&signed);
        let mut written = vec![source.module_path.clone()];
        replace(&source.module_path, &signed)?;
        if source.has_manifest {
            let signature = self.pair.sk.sign(statement(&digest), None);
            let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
            let file = source.directory.join(FILE);
            replace(&file, format!("{hex}\n").as_bytes())?;
            written.push(file);
        }
        Ok(written)
    }
}

/// Writes a file beside `path` and moves it there, so that nobody ever reads half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), SignError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let done = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    done.map_err(|error| SignError::Write { file: path.to_owned(), error })
}

/// Makes a new key: the secret one in `NAME.key`, which only its owner may read, the public one in `NAME.pub`. Neither
/// is overwritten.
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
    use crate::size::Size;

    const MODULE: &str = r#"(module (func (export "_start")))"#;

    struct Desk {
        root: tempfile::TempDir,
        signer: Signer,
        trusted: Trusted,
    }

    /// A plugin called `echo`, a key, and the trust in that key.
    fn desk(manifest: Option<&str>) -> Desk {
        let root = tempfile::tempdir().unwrap();
        let plugin = root.path().join("echo");
        fs::create_dir(&plugin).unwrap();
        fs::write(plugin.join("echo.wasm"), wat::parse_str(MODULE).unwrap()).unwrap();
        if let Some(manifest) = manifest {
            fs::write(plugin.join(manifest::FILE), manifest).unwrap();
        }
        let [secret, public] = generate(&root.path().join("team")).unwrap();
        let trusted = Trusted::read(&[public]).unwrap().unwrap();
        Desk { signer: Signer::read(&secret).unwrap(), trusted, root }
    }

    impl Desk {
        fn source(&self) -> Source {
            Source::read(&self.root.path().join("echo"), Size::mib(1)).unwrap()
        }

        fn check(&self) -> Result<(), String> {
            self.trusted.check(&self.source()).map_err(|error| error.to_string())
        }

        fn sign(&self) {
            self.signer.sign(&self.source()).unwrap();
        }

        fn change(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
            let file = self.root.path().join("echo").join(file);
            let mut bytes = fs::read(&file).unwrap();
            change(&mut bytes);
            fs::write(file, bytes).unwrap();
        }
    }

    #[test]
    fn a_plugin_is_trusted_once_it_is_signed_and_as_long_as_nothing_changes() {
        for manifest in [None, Some("description: x\n")] {
            let desk = desk(manifest);
            assert!(desk.check().unwrap_err().contains("not signed"));
            desk.sign();
            desk.check().unwrap();
            // Signing again changes nothing.
            desk.sign();
            desk.check().unwrap();
            desk.change("echo.wasm", |module| module.extend([0, 2, 1, b'x']));
            assert!(desk.check().unwrap_err().contains("changed after it was signed"));
        }
    }

    #[test]
    fn a_manifest_is_signed_together_with_its_module() {
        let desk = desk(Some("description: x\n"));
        desk.sign();
        let (module, signature) = {
            let source = desk.source();
            (source.module_bytes, source.signature.unwrap())
        };
        desk.change("plugin.yaml", |manifest| manifest.extend(b"arguments: [other.py]\n"));
        assert!(desk.check().unwrap_err().contains("plugin.yaml.sig"));
        desk.sign();
        desk.check().unwrap();
        // An old module with a new manifest, and a manifest without its signature.
        desk.change(FILE, |it| *it = signature);
        assert!(desk.check().is_err());
        assert_eq!(desk.source().module_bytes, module);
        fs::remove_file(desk.root.path().join("echo").join(FILE)).unwrap();
        assert!(desk.check().unwrap_err().contains("plugin.yaml is not signed"));
    }

    #[test]
    fn the_key_of_somebody_else_does_not_count() {
        let (ours, theirs) = (desk(Some("")), desk(Some("")));
        ours.sign();
        assert!(theirs.trusted.check(&ours.source()).is_err());
        // Signed by both, it is trusted by each.
        theirs.signer.sign(&ours.source()).unwrap();
        assert!(theirs.trusted.check(&ours.source()).is_ok());
    }

    #[test]
    fn text_and_what_is_no_key_are_refused_with_what_to_do() {
        let desk = desk(None);
        let text = desk.root.path().join("text");
        fs::create_dir(&text).unwrap();
        fs::write(text.join("text.wat"), MODULE).unwrap();
        let source = Source::read(&text, Size::mib(1)).unwrap();
        assert!(desk.trusted.check(&source).unwrap_err().to_string().contains("make a .wasm of it"));
        assert!(desk.signer.sign(&source).is_err());
        let error = Trusted::read(&[text.join("text.wat")]).unwrap_err().to_string();
        assert!(
            error.ends_with("not a public key of Ed25519 in PEM form: make one with `distillery keygen NAME`"),
            "{error}"
        );
        assert!(Trusted::read(&[]).unwrap().is_none());
    }

    #[test]
    fn a_secret_key_is_nobody_elses_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let [secret, _] = generate(&root.path().join("team")).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(generate(&root.path().join("team")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
