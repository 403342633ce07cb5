//! The numbers that a preview 1 module knows its files by.

use std::collections::HashMap;

/// The table entries of descriptors, by number.
#[derive(Default)]
pub struct Numbers {
    /// Whether the preopened directories are recorded.
    pub begun: bool,
    pub places: HashMap<i32, u32>,
}

impl Numbers {
    pub fn place(&self, number: i32) -> Option<u32> {
        self.places.get(&number).copied()
    }
}
