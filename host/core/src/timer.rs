//! A timer whose due time changes.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use tokio::time::Sleep;

/// Ready when it is `due`; otherwise sets the timer. A timer that is already set for that time stays, so that repeated
/// polls are cheap.
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
    async fn due_time_can_move_in_both_directions() {
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
