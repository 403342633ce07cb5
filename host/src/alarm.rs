//! A timer for what is due at a time that changes.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use tokio::time::Sleep;

/// Ready when it is `due`, and sets the timer for that otherwise. A timer that is set for that already is left alone, so
/// that asking again and again costs little.
pub fn poll_due(mut timer: Pin<&mut Sleep>, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let due = due.into();
    if timer.deadline() != due {
        timer.as_mut().reset(due);
    }
    timer.poll(cx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, pin::pin, time::Duration};

    #[tokio::test]
    async fn what_is_due_may_be_later_or_earlier_after_all() {
        let begun = Instant::now();
        let never = begun + Duration::from_secs(3600);
        let mut timer = pin!(tokio::time::sleep_until(never.into()));
        for _ in 0..2 {
            poll_fn(|cx| {
                assert!(poll_due(timer.as_mut(), never, cx).is_pending());
                Poll::Ready(())
            })
            .await;
            let soon = Instant::now() + Duration::from_millis(2);
            poll_fn(|cx| poll_due(timer.as_mut(), soon, cx)).await;
            assert!(Instant::now() >= soon);
        }
    }
}
