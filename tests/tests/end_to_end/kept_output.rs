//! What processes wrote, read from the history: while they run, after their end, and after a crash of the server.

use distillery_tests::{Client, Guest, Server, http::Answer, patiently, server::Builder};
use hyper::Method;

const LOUD: &str = "
stderr: forward
calls:
  words:
    access: public
";

const UNKEPT: &str = "
calls:
  unkept:
    access: public
    output: none
";

fn builder() -> Builder {
    Server::builder().guest(Guest::component("conversation")).plugin("unkept", Guest::component("args"), UNKEPT)
}

async fn call(server: &Server, bearer: &str, name: &str, params: &[&str]) -> Client {
    let headers = [("authorization", bearer)];
    let mut client = Client::connect_to(server.address(), "/api/v1/ws", &headers).await.expect("a socket");
    client.call(name, params).await;
    client
}

/// Returns the id of the newest process of the bearer.
async fn newest(server: &Server, bearer: &str) -> String {
    let headers = [("authorization", bearer)];
    let answer = server.request(Method::GET, "/api/v1/processes?limit=1", &headers).await;
    answer.json()[0]["id"].as_str().expect("an id").to_owned()
}

async fn output(server: &Server, bearer: &str, id: &str, query: &str) -> Answer {
    let headers = [("authorization", bearer)];
    server.request(Method::GET, &format!("/api/v1/processes/{id}/output?{query}"), &headers).await
}

#[tokio::test]
async fn output_is_read_exactly_after_the_end() {
    let builder = Server::builder().example("echo").plugin("words", Guest::component("stderr_words"), LOUD);
    let ada = builder.user("ada", &["call:*"]);
    let bob = builder.user("bob", &["call:*"]);
    let server = builder.start().await;
    let mut client = call(&server, &ada, "echo", &["2"]).await;
    client.say("first ü").await;
    client.say("second").await;
    client.finish().await.success();
    let id = newest(&server, &ada).await;
    let whole = output(&server, &ada, &id, "").await;
    assert_eq!((whole.status.as_u16(), &whole.body[..]), (200, "first ü\nsecond\n".as_bytes()));
    assert_eq!((whole.header("distillery-offset"), whole.header("distillery-total")), ("0", "16"));
    assert_eq!(whole.header("content-type"), "application/octet-stream");
    let rest = output(&server, &ada, &id, "from=9").await;
    assert_eq!((&rest.body[..], rest.header("distillery-offset")), (&b"second\n"[..], "9"));
    let end = output(&server, &ada, &id, "from=16").await;
    assert_eq!((&end.body[..], end.header("distillery-total")), (&b""[..], "16"));
    assert_eq!(output(&server, &bob, &id, "").await.status, 404);
    assert_eq!(output(&server, &ada, &id, "from=x").await.status, 400);
    call(&server, &ada, "words", &[]).await.finish().await;
    let id = newest(&server, &ada).await;
    let stderr = output(&server, &ada, &id, "stream=stderr").await;
    assert!(!stderr.body.is_empty(), "{stderr:?}");
    let printed = server.run(&["logs", "--stderr", &id]);
    assert_eq!(printed.stdout, stderr.body);
}

#[tokio::test]
async fn stderr_of_the_log_is_for_operators() {
    let builder = Server::builder().guest(Guest::component("stderr_words"));
    let ada = builder.user("ada", &["call:*"]);
    let server = builder.start().await;
    call(&server, &ada, "stderr_words", &[]).await.finish().await;
    let id = newest(&server, &ada).await;
    let hers = output(&server, &ada, &id, "stream=stderr").await;
    assert_eq!((hers.status.as_u16(), &hers.body[..], hers.header("distillery-total")), (200, &b""[..], "0"));
    let path = format!("/api/v1/processes/{id}/output?stream=stderr");
    assert!(!server.operator(Method::GET, &path).await.body.is_empty());
}

#[tokio::test]
async fn call_with_output_none_keeps_nothing() {
    let builder = builder();
    let ada = builder.user("ada", &["call:*"]);
    let server = builder.start().await;
    call(&server, &ada, "unkept", &["a"]).await.finish().await.success();
    let id = newest(&server, &ada).await;
    let answer = output(&server, &ada, &id, "").await;
    assert_eq!(answer.status, 410, "{:?}", answer.body);
}

#[tokio::test]
async fn crashed_server_has_what_was_written() {
    let builder = Server::builder().example("echo");
    let ada = builder.user("ada", &["call:*"]);
    let mut server = builder.start().await;
    let mut client = call(&server, &ada, "echo", &[]).await;
    client.say("before the crash").await;
    assert_eq!(client.line().await, "before the crash");
    let id = newest(&server, &ada).await;
    // The answer comes when everything so far is on disk.
    assert_eq!(&output(&server, &ada, &id, "").await.body[..], b"before the crash\n");
    server.crash_and_restart().await;
    let after = output(&server, &ada, &id, "").await;
    assert_eq!((after.status.as_u16(), &after.body[..]), (200, &b"before the crash\n"[..]));
}

#[tokio::test]
async fn followed_output_goes_on_until_the_end() {
    let builder = Server::builder().example("echo");
    let ada = builder.user("ada", &["call:*"]);
    let server = builder.start().await;
    let mut client = call(&server, &ada, "echo", &["2"]).await;
    client.say("one").await;
    assert_eq!(client.line().await, "one");
    let id = newest(&server, &ada).await;
    let followed = output(&server, &ada, &id, "follow=true");
    let later = async {
        // The end of the process ends the answer.
        client.say("two").await;
        client.finish().await.success();
    };
    let (followed, ()) = patiently("the whole output", async { tokio::join!(followed, later) }).await;
    assert_eq!(&followed.body[..], b"one\ntwo\n");
    let printed = server.run(&["logs", "-f", &id]);
    assert_eq!(String::from_utf8_lossy(&printed.stdout), "one\ntwo\n");
}

#[tokio::test]
async fn long_output_keeps_its_beginning_and_its_end() {
    let builder = Server::builder().set("history.output_each", "4KiB").example("echo");
    let ada = builder.user("ada", &["call:*"]);
    let server = builder.start().await;
    let mut client = call(&server, &ada, "echo", &["1000"]).await;
    for n in 0..1000 {
        client.say(format!("line {n:04}")).await;
    }
    client.finish().await.success();
    let id = newest(&server, &ada).await;
    let first = output(&server, &ada, &id, "").await;
    assert!(first.body.starts_with(b"line 0000\n") && first.body.len() == 4096, "{}", first.body.len());
    assert_eq!(first.header("distillery-total"), "10000");
    let rest = output(&server, &ada, &id, "from=4096").await;
    let offset: usize = rest.header("distillery-offset").parse().unwrap();
    assert!(offset > 4096 && offset + rest.body.len() == 10_000 && rest.body.ends_with(b"line 0999\n"), "{offset}");
    let printed = server.run(&["logs", &id]);
    assert_eq!(printed.stdout.len(), 4096 + rest.body.len());
    assert!(String::from_utf8_lossy(&printed.stderr).contains("bytes are not kept"));
}
