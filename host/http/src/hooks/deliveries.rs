//! The deliveries that a webhook has accepted, so that none of them runs its call twice.

use super::signature::DeliveryId;
use parking_lot::Mutex;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

/// The maximum number of remembered deliveries of one webhook; the oldest are forgotten first.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Deliveries(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashSet<DeliveryId>,
    /// In the order of their acceptance.
    order: VecDeque<DeliveryId>,
}

/// A delivery that is being handled. It is forgotten when dropped, unless it is accepted.
#[derive(Debug)]
pub struct Reserved {
    deliveries: Arc<Deliveries>,
    id: Option<DeliveryId>,
}

impl Deliveries {
    /// Reserves a delivery. `None` if it was accepted before, or is being handled.
    pub fn reserve(self: &Arc<Self>, id: DeliveryId) -> Option<Reserved> {
        self.0.lock().known.insert(id).then(|| Reserved { deliveries: self.clone(), id: Some(id) })
    }
}

impl Reserved {
    /// Remembers the delivery.
    pub fn accept(mut self) {
        let Some(id) = self.id.take() else { return };
        let mut state = self.deliveries.0.lock();
        state.order.push_back(id);
        if state.order.len() > REMEMBERED
            && let Some(oldest) = state.order.pop_front()
        {
            state.known.remove(&oldest);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.deliveries.0.lock().known.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> DeliveryId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id
    }

    #[test]
    fn accepted_delivery_is_not_reserved_again() {
        let deliveries = Arc::<Deliveries>::default();
        let first = deliveries.reserve(id(1)).unwrap();
        assert!(deliveries.reserve(id(1)).is_none(), "it is being handled");
        drop(first);
        deliveries.reserve(id(1)).unwrap().accept();
        assert!(deliveries.reserve(id(1)).is_none());
        assert!(deliveries.reserve(id(2)).is_some());
    }

    #[test]
    fn remembered_deliveries_are_bounded() {
        let deliveries = Arc::<Deliveries>::default();
        for number in 0..=REMEMBERED {
            deliveries.reserve(id(number)).unwrap().accept();
        }
        assert_eq!(deliveries.0.lock().known.len(), REMEMBERED);
        assert!(deliveries.reserve(id(0)).is_some() && deliveries.reserve(id(1)).is_none());
    }
}
