//! The data that a process's streams hold between a file and the guest. Each holds at most one piece, and all together
//! at most [`PENDING`].

use distillery_core::size::Size;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The maximum of all file streams of a process.
pub const PENDING: Size = Size::mib(8);
/// The maximum of one stream.
pub const PIECE: usize = 64 << 10;
/// The maximum of one stream once the process has used half of [`PENDING`], so that a thousand streams can proceed.
const SMALL_PIECE: usize = 4 << 10;

#[derive(Debug, Default)]
pub struct Pending(AtomicUsize);

/// Bytes that a stream holds, counted until dropped.
#[derive(Debug)]
pub struct Held {
    pending: Arc<Pending>,
    bytes: usize,
}

/// The error if the process's streams would exceed [`PENDING`].
#[derive(Debug, thiserror::Error)]
#[error("its file streams hold more than {PENDING}")]
pub struct TooMuchPending;

impl Pending {
    /// Returns the number of bytes that an empty stream can hold now.
    pub fn permit(&self) -> usize {
        if self.0.load(Relaxed) < PENDING.as_usize() / 2 { PIECE } else { SMALL_PIECE }
    }

    pub fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, TooMuchPending> {
        let most = PENDING.as_usize();
        let held = self.0.fetch_update(Relaxed, Relaxed, |held| Some(held + bytes).filter(|sum| *sum <= most));
        held.map(|_| Held { pending: self.clone(), bytes }).map_err(|_| TooMuchPending)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pending.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousand_streams_fit_as_permits_shrink() {
        let pending = Arc::new(Pending::default());
        let held: Vec<_> = (0..1024).map(|_| pending.hold(pending.permit()).unwrap()).collect();
        assert_eq!(pending.permit(), SMALL_PIECE);
        let greedy: Vec<_> = std::iter::from_fn(|| pending.hold(PIECE).ok()).collect();
        assert!(pending.hold(PIECE).is_err() && pending.0.load(Relaxed) <= PENDING.as_usize());
        drop((held, greedy));
        assert_eq!((pending.0.load(Relaxed), pending.permit()), (0, PIECE));
    }
}
