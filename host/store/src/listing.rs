//! Response bodies that are the same for all callers, made once and not for each request.

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// A response body that is the same for all callers.
#[derive(Clone, Debug)]
pub struct Told {
    pub body: Bytes,
    /// The ETag of this body, in quotes.
    pub tag: Bytes,
}

impl From<Bytes> for Told {
    fn from(body: Bytes) -> Self {
        let digest = Sha256::digest(&body);
        let tag = digest[..16].iter().fold(String::from('"'), |tag, byte| tag + &format!("{byte:02x}")) + "\"";
        Self { body, tag: tag.into() }
    }
}

/// Items with their JSON, which is serialized once and not for each request.
#[derive(Debug)]
pub struct Listing<T> {
    pub items: Vec<T>,
    pub told: Told,
}

impl<T: Serialize> Listing<T> {
    pub fn new(items: Vec<T>) -> Result<Self, serde_json::Error> {
        let told = Bytes::from(serde_json::to_vec(&items)?).into();
        Ok(Self { items, told })
    }
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { items: Vec::new(), told: Bytes::from_static(b"[]").into() }
    }
}
