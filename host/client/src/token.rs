//! The token of a client, from a file that only its owner can read.

use anyhow::{Context, bail};
use rustix::process::geteuid;
use std::{fmt, fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// A length above that of any token.
const LONGEST: u64 = 4096;

#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Parses the text of a token, with or without surrounding space.
    pub fn new(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_whitespace) {
            bail!("that is not one token: make one with `distillery token add`");
        }
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok().context("that is not a token")?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// Reads the token from a file that only its owner can use.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let opened = File::open(file).with_context(|| format!("cannot read the token in {shown}"))?;
        let metadata = opened.metadata()?;
        let (mode, owner) = (metadata.mode(), metadata.uid());
        if owner != geteuid().as_raw() && owner != 0 {
            bail!("{shown} belongs to somebody else, who could change it: keep the token in a file of your own");
        }
        if mode & 0o077 != 0 {
            bail!(
                "others can use {shown} (its mode is {:o}): keep the token to yourself with `chmod 600 {shown}`",
                mode & 0o777
            );
        }
        let mut text = String::new();
        opened.take(LONGEST).read_to_string(&mut text).with_context(|| format!("cannot read the token in {shown}"))?;
        Self::new(&text).with_context(|| format!("in {shown}"))
    }

    /// Returns the header for a request.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn token_file_must_be_private() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "dst_abc\n").unwrap();
        let with_mode = |mode| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            Token::read(&file)
        };
        assert_eq!(with_mode(0o600).unwrap().header(), "Bearer dst_abc");
        assert_eq!(with_mode(0o400).unwrap().header(), "Bearer dst_abc");
        let said = with_mode(0o640).unwrap_err().to_string();
        assert!(said.contains("its mode is 640") && said.contains("chmod 600"), "{said}");
        assert!(!format!("{:?}", with_mode(0o600)).contains("abc"));
    }

    #[test]
    fn invalid_token_is_refused() {
        for text in ["", "\n", "two words", "a\nb"] {
            assert!(Token::new(text).is_err(), "{text:?}");
        }
    }
}
