//! Code that the bench shares with the layers.

pub mod bare;
