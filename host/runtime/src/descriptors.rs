//! The file descriptors available to guests. The rest of the kernel's limit is reserved for sockets and the database,
//! so that guests cannot keep the server from accepting connections.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The number of descriptors that a process gets as long as any are free.
const FEW: u64 = 8;
/// Beyond [`FEW`], a process gets another descriptor while it holds less than this fraction of the free ones. Greedy
/// processes thus always leave some to the next.
const PART: u64 = 4;

/// The descriptors of all processes together.
#[derive(Debug)]
pub struct Descriptors {
    free: AtomicU64,
}

/// The descriptors of one process.
#[derive(Debug)]
pub struct Share {
    of: Arc<Descriptors>,
    held: AtomicU64,
}

/// One descriptor, held until it is dropped.
#[derive(Debug)]
pub struct Descriptor(Arc<Share>);

impl Descriptors {
    pub fn new(count: u64) -> Self {
        Self { free: AtomicU64::new(count) }
    }

    fn take(&self, held: u64) -> bool {
        let permitted = |free: u64| free > 0 && (held < FEW || held < free / PART);
        self.free.fetch_update(Relaxed, Relaxed, |free| permitted(free).then(|| free - 1)).is_ok()
    }

    fn give_back(&self) {
        self.free.fetch_add(1, Relaxed);
    }
}

impl Share {
    pub fn of(descriptors: &Arc<Descriptors>) -> Arc<Self> {
        Arc::new(Self { of: descriptors.clone(), held: AtomicU64::new(0) })
    }

    /// Takes one more descriptor; `None` if the process has used its share.
    pub fn take(self: &Arc<Self>) -> Option<Descriptor> {
        if !self.of.take(self.held.load(Relaxed)) {
            return None;
        }
        self.held.fetch_add(1, Relaxed);
        Some(Descriptor(self.clone()))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
        self.0.of.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(share: &Arc<Share>) -> Vec<Descriptor> {
        std::iter::from_fn(|| share.take()).collect()
    }

    #[test]
    fn greedy_process_leaves_descriptors_to_the_next() {
        let descriptors = Arc::new(Descriptors::new(1000));
        let shares: Vec<_> = (0..8).map(|_| Share::of(&descriptors)).collect();
        let held: Vec<_> = shares.iter().map(all).collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts[0], 200);
        assert!(counts.iter().all(|count| *count >= 40), "{counts:?}");
        drop(held);
        assert_eq!(descriptors.free.load(Relaxed), 1000);
    }

    #[test]
    fn no_descriptor_is_given_past_the_last() {
        let descriptors = Arc::new(Descriptors::new(10));
        let (one, other) = (Share::of(&descriptors), Share::of(&descriptors));
        let (held, rest) = (all(&one), all(&other));
        assert_eq!((held.len(), rest.len()), (8, 2));
        assert!(other.take().is_none());
        drop(held);
        assert!(other.take().is_some());
    }
}
