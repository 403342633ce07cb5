//! Lines from the guest to the client: complete, in order, and within the agreed memory.

use distillery_tests::{Guest, Server};
use std::time::Duration;

async fn lines_of(name: &str, params: &[&str]) -> Vec<Vec<String>> {
    let server = Server::builder().both(name).start().await;
    let mut outputs = Vec::new();
    for call in [name.to_owned(), format!("{name}.module")] {
        outputs.push(server.call(&call, params).await.finish().await.success());
    }
    outputs
}

#[tokio::test]
async fn prompt_is_sent_when_the_guest_waits() {
    let server = Server::builder().both("prompt").start().await;
    for call in ["prompt", "prompt.module"] {
        let mut client = server.call(call, &[]).await;
        assert_eq!(client.line().await, "name? ", "{call}");
        client.say("Ada").await;
        assert_eq!(client.finish().await.success(), ["hello Ada"], "{call}");
    }
}

#[tokio::test]
async fn lf_and_crlf_end_a_line_and_a_lone_cr_does_not() {
    for lines in lines_of("crlf", &[]).await {
        assert_eq!(lines, ["one", "two\rthree", "", "four"]);
    }
}

#[tokio::test]
async fn character_split_by_two_writes_arrives_whole() {
    for lines in lines_of("cut_char", &[]).await {
        assert_eq!(lines, ["café", "🦀", "half a crab \u{fffd}"]);
    }
}

#[tokio::test]
async fn character_split_by_a_prompt_arrives_whole() {
    let server = Server::builder().both("cut_prompt").start().await;
    for call in ["cut_prompt", "cut_prompt.module"] {
        let mut client = server.call(call, &[]).await;
        assert_eq!(client.line().await, "caf", "{call}");
        client.say("").await;
        assert_eq!(client.finish().await.success(), ["é"], "{call}");
    }
}

#[tokio::test]
async fn invalid_utf8_is_replaced() {
    for lines in lines_of("bad_utf8", &[]).await {
        assert_eq!(lines, ["before \u{fffd}\u{fffd} after", "lone \u{fffd}"]);
    }
}

#[tokio::test]
async fn last_line_without_terminator_is_sent() {
    for lines in lines_of("no_newline", &[]).await {
        assert_eq!(lines, ["first", "last"]);
    }
}

#[tokio::test]
async fn long_line_is_one_frame() {
    for lines in lines_of("long_line", &["300000"]).await {
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [300_000]);
    }
}

#[tokio::test]
async fn endless_line_ends_at_the_line_limit() {
    let server = Server::builder()
        .both("one_endless_line")
        .set("limits.line", "64KiB")
        .grace(Duration::from_millis(100))
        .start()
        .await;
    for call in ["one_endless_line", "one_endless_line.module"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert!(message.starts_with("line limit of 64KiB reached"), "{call}: {message}");
    }
}

#[tokio::test]
async fn output_limit_ends_a_flood_after_sending_what_fits() {
    let server =
        Server::builder().both("flood").set("limits.output", "1MiB").grace(Duration::from_millis(100)).start().await;
    for call in ["flood", "flood.module"] {
        let end = server.call(call, &[]).await.finish().await;
        let sent: usize = end.lines.iter().map(|line| line.len() + 1).sum();
        // The terminator of the last line can be beyond the limit.
        assert!((1 << 19..=(1 << 20) + 1).contains(&sent), "{call}: {sent}");
        let wrong = (0..end.lines.len() - 1).find(|number| end.lines[*number] != format!("line {number}"));
        assert_eq!(wrong, None, "{call}");
        let message = end.failure();
        assert!(message.starts_with("output limit of 1MiB reached"), "{call}: {message}");
    }
}

#[tokio::test]
async fn flood_waits_for_a_client_that_does_not_read() {
    let server = Server::builder().guest(Guest::component("flood")).guest(Guest::component("echo_once")).start().await;
    let before = server.peak_memory();
    let mut slow = server.call("flood", &[]).await;
    slow.line().await;
    // Other calls run meanwhile, and give the flood time to fill the memory if it could.
    for _ in 0..200 {
        let mut client = server.call("echo_once", &[]).await;
        client.say("in between").await;
        client.finish().await.success();
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    for number in 1..10_000 {
        assert_eq!(slow.line().await, format!("line {number}"));
    }
}

#[tokio::test]
async fn echo_passes_a_hundred_megabytes_in_bounded_memory() {
    let server = Server::builder().example("echo").start().await;
    let before = server.peak_memory();
    let (mut speaker, mut listener) = server.call("echo", &[]).await.split();
    let line = "0123456789".repeat(1000);
    let lines = 10_000;
    let speak = async {
        speaker.say_all((0..lines).map(|_| line.clone())).await.expect("the server reads it all");
    };
    let listen = async {
        let mut heard = 0;
        while heard < lines {
            match listener.next().await {
                distillery_tests::Frame::Text(text) => assert!(text == line, "line {heard}"),
                other => panic!("got {other:?} after {heard} lines"),
            }
            heard += 1;
        }
    };
    tokio::join!(listen, speak);
    speaker.cancel().await;
    assert_eq!(listener.finish().await.failure(), "cancelled by the client");
    let grown = server.peak_memory() - before;
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn pipelined_lines_come_back_in_order() {
    let server = Server::builder().example("echo").start().await;
    let lines = 100_000;
    let (mut speaker, listener) = server.call("echo", &[&lines.to_string()]).await.split();
    let speak = async { speaker.say_all((0..lines).map(|number: u32| number.to_string())).await };
    let (end, spoken) = tokio::join!(listener.finish(), speak);
    spoken.expect("the server reads it all");
    let heard = end.success();
    assert_eq!(heard.len(), lines as usize);
    assert_eq!((0..lines).find(|number| heard[*number as usize] != number.to_string()), None);
}

#[tokio::test]
async fn client_can_send_everything_before_it_reads() {
    let server = Server::builder().example("echo").start().await;
    let lines = 100_000;
    let mut client = server.call("echo", &[&lines.to_string()]).await;
    client.say_all((0..lines).map(|number: u32| number.to_string())).await.expect("the server reads it all");
    let heard = client.finish().await.success();
    assert_eq!(heard.len(), lines as usize);
    assert_eq!((0..lines).find(|number| heard[*number as usize] != number.to_string()), None);
}

#[tokio::test]
async fn slow_guest_receives_all_input_sent_ahead() {
    let server = Server::builder().both("slow_reader").start().await;
    for call in ["slow_reader", "slow_reader.module"] {
        let mut client = server.call(call, &[]).await;
        client.say_all((0..100).map(|number| number.to_string())).await.expect("the server reads it all");
        for number in 0..100 {
            assert_eq!(client.line().await, number.to_string(), "{call}");
        }
    }
}
