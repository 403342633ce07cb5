//! Ways of a WASI 0.3 component to take its time: `waits-p3 sleep|hold|spin|flood`, or to take too much: `waits-p3
//! streams|tasks`.

use std::{future::poll_fn, task::Poll};
use wasip3::{
    cli::{environment, stdin, stdout},
    clocks::monotonic_clock,
};

struct Waits;

wasip3::cli::command::export!(Waits);

const HOUR: u64 = 3600 * 1_000_000_000;

impl wasip3::exports::cli::run::Guest for Waits {
    async fn run() -> Result<(), ()> {
        let (mut output, sent) = wasip3::wit_stream::new();
        let _written = stdout::write_via_stream(sent);
        output.write_all(b"ready\n".to_vec()).await;
        match environment::get_arguments().get(1).map(String::as_str) {
            Some("sleep") => monotonic_clock::wait_for(HOUR).await,
            Some("hold") => {
                let (input, _ended) = stdin::read_via_stream();
                input.collect().await;
                monotonic_clock::wait_for(HOUR).await;
            }
            Some("spin") => loop {
                std::hint::black_box(());
            },
            Some("flood") => loop {
                let rest = output.write_all(b"and another thing\n".repeat(1000)).await;
                if !rest.is_empty() {
                    return Err(());
                }
            },
            Some("streams") => {
                let mut held = Vec::new();
                loop {
                    held.push(wasip3::wit_stream::new::<u8>());
                }
            }
            Some("tasks") => {
                let mut held = Vec::new();
                poll_fn(|cx| -> Poll<()> {
                    loop {
                        let mut waiting = Box::pin(monotonic_clock::wait_for(HOUR));
                        _ = waiting.as_mut().poll(cx);
                        held.push(waiting);
                    }
                })
                .await
            }
            _ => return Err(()),
        }
        Ok(())
    }
}
