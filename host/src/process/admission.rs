//! How many processes run at once, and who waits for a place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Admission {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
    pub queue_time: Duration,
}

/// The right to run one process, given back when dropped.
pub struct Place {
    _server: OwnedSemaphorePermit,
    _plugin: Option<OwnedSemaphorePermit>,
}

/// What a call finds that wants to run.
pub enum Asked {
    Admitted(Place),
    /// It may wait.
    Wait(Turn),
    /// As many wait as may.
    Full,
}

/// A place in the queue.
pub struct Turn(std::pin::Pin<Box<dyn Future<Output = Place> + Send>>);

impl Future for Turn {
    type Output = Place;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Place> {
        self.0.as_mut().poll(cx)
    }
}

/// One more in the queue, as long as it lives.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Admission {
    pub fn new(processes: u32, queue: usize, queue_time: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(processes as usize)), waiting: Arc::default(), queue, queue_time }
    }

    /// How many processes may start now.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// Asks for a place on the server and, where the plugin has a number of its own, among those.
    pub fn ask(&self, plugin: Option<&Arc<Semaphore>>) -> Asked {
        if let Some(place) = try_both(&self.places, plugin) {
            return Asked::Admitted(place);
        }
        if self.queue_time.is_zero() || self.waiting.fetch_add(1, Relaxed) >= self.queue {
            if !self.queue_time.is_zero() {
                self.waiting.fetch_sub(1, Relaxed);
            }
            return Asked::Full;
        }
        let waiting = Waiting(self.waiting.clone());
        let (places, plugin) = (self.places.clone(), plugin.cloned());
        Asked::Wait(Turn(Box::pin(async move {
            let _waiting = waiting;
            // The plugin's place first: it would be wrong to hold one of the server's while waiting for a plugin's.
            let plugin = match plugin {
                Some(plugin) => Some(acquire(plugin).await),
                None => None,
            };
            Place { _server: acquire(places).await, _plugin: plugin }
        })))
    }
}

async fn acquire(places: Arc<Semaphore>) -> OwnedSemaphorePermit {
    places.acquire_owned().await.expect("these semaphores are never closed")
}

fn try_both(places: &Arc<Semaphore>, plugin: Option<&Arc<Semaphore>>) -> Option<Place> {
    let plugin = match plugin {
        Some(plugin) => Some(plugin.clone().try_acquire_owned().ok()?),
        None => None,
    };
    Some(Place { _server: places.clone().try_acquire_owned().ok()?, _plugin: plugin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_that_is_given_back_goes_to_who_waits() {
        let admission = Admission::new(1, 1, Duration::from_secs(5));
        let Asked::Admitted(place) = admission.ask(None) else { panic!() };
        let Asked::Wait(turn) = admission.ask(None) else { panic!() };
        assert!(matches!(admission.ask(None), Asked::Full));
        drop(place);
        let place = turn.await;
        assert_eq!(admission.free(), 0);
        drop(place);
        assert_eq!(admission.free(), 1);
    }

    #[tokio::test]
    async fn whoever_leaves_the_queue_makes_room_in_it() {
        let admission = Admission::new(1, 1, Duration::from_secs(5));
        let _place = admission.ask(None);
        drop(admission.ask(None));
        assert!(matches!(admission.ask(None), Asked::Wait(_)));
        let at_once = Admission::new(0, 1, Duration::ZERO);
        assert!(matches!(at_once.ask(None), Asked::Full));
        assert!(matches!(at_once.ask(None), Asked::Full));
    }

    #[tokio::test]
    async fn a_full_plugin_keeps_no_other_from_running() {
        let admission = Admission::new(2, 1, Duration::from_secs(5));
        let plugin = Arc::new(Semaphore::new(1));
        let _first = admission.ask(Some(&plugin));
        let _second = admission.ask(Some(&plugin));
        assert_eq!(admission.free(), 1);
        assert!(matches!(admission.ask(None), Asked::Admitted(_)));
    }
}
