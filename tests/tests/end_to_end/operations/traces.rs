//! Traces of single calls, as a collector gets them by OTLP over HTTP.

use distillery_tests::{Client, Guest, Server, http::get_over, patiently, server::Builder};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// A collector that accepts one request after the other.
struct Collector(TcpListener);

impl Collector {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("an address"))
    }

    fn builder(&self) -> Builder {
        let address = self.0.local_addr().expect("an address");
        Server::builder().set("traces.endpoint", format!("http://{address}/v1/traces"))
    }

    /// Returns the content of the next request.
    async fn request(&self, answer: &str) -> Value {
        patiently("spans", async {
            let (mut stream, _) = self.0.accept().await.expect("a connection");
            let mut read = Vec::new();
            loop {
                stream.read_buf(&mut read).await.expect("the request continues");
                let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
                assert!(
                    head.starts_with("post /v1/traces http/1.1") && head.contains("content-type: application/json")
                );
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                if read.len() >= end + 4 + length.parse::<usize>().expect("a number") {
                    let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\n{{}}");
                    stream.write_all(answer.as_bytes()).await.expect("the answer leaves");
                    return serde_json::from_slice(&read[end + 4..]).expect("JSON");
                }
            }
        })
        .await
    }

    /// Returns this many spans, each with its resource checked.
    async fn spans(&self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let request = self.request("200 OK").await;
            let resource = &request["resourceSpans"][0];
            assert_eq!(attributes(&resource["resource"])["service.name"], "distillery");
            let all = resource["scopeSpans"][0]["spans"].as_array().expect("spans");
            spans.extend(all.iter().map(Span::read));
        }
        spans
    }
}

#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: i64,
    from: u64,
    to: u64,
    attributes: BTreeMap<String, String>,
    failure: Option<String>,
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let all = of["attributes"].as_array().expect("attributes");
    let text = |value: &Value| value["stringValue"].as_str().or(value["intValue"].as_str()).map(str::to_owned);
    all.iter().map(|it| (it["key"].as_str().expect("a key").into(), text(&it["value"]).expect("a value"))).collect()
}

impl Span {
    fn read(span: &Value) -> Self {
        let text = |name: &str| span[name].as_str().unwrap_or_else(|| panic!("{name} of {span}")).to_owned();
        let hex = |name: &str, length| {
            let id = text(name);
            assert!(id.len() == length && id.bytes().all(|it| it.is_ascii_hexdigit()), "{name}: {id}");
            id
        };
        let failure =
            (span["status"]["code"] == 2).then(|| span["status"]["message"].as_str().expect("why").to_owned());
        let read = Self {
            trace: hex("traceId", 32),
            id: hex("spanId", 16),
            parent: text("parentSpanId"),
            name: text("name"),
            kind: span["kind"].as_i64().expect("a kind"),
            from: text("startTimeUnixNano").parse().expect("a time"),
            to: text("endTimeUnixNano").parse().expect("a time"),
            attributes: attributes(span),
            failure,
        };
        assert!(read.from > 1_600_000_000_000_000_000 && read.to >= read.from, "{read:?}");
        read
    }
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("there is no {name} in {spans:#?}"))
}

async fn call(server: &Server, name: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::connect_to(server.address(), "/api/v1/ws", headers).await.expect("a socket");
    client.call(name, &[]).await;
    client
}

#[tokio::test]
async fn call_span_is_a_child_of_the_span_of_the_client() {
    let collector = Collector::new().await;
    let server = collector.builder().guest(Guest::component("echo_once")).start().await;
    let mut client = call(&server, "echo_once", &[("traceparent", &traceparent("01"))]).await;
    client.say("x").await;
    client.finish().await.success();
    let spans = collector.spans(2).await;
    let (request, process) = (named(&spans, "request"), named(&spans, "process"));
    assert_eq!((request.trace.as_str(), request.parent.as_str(), request.kind), (TRACE, PARENT, 2));
    assert_eq!((process.trace.as_str(), &process.parent, process.kind), (TRACE, &request.id, 1));
    assert_eq!(request.attributes["url.path"], "/api/v1/ws");
    assert_eq!(request.attributes["http.response.status_code"], "101");
    let expected = [("call", "echo_once"), ("plugin", "echo_once"), ("generation", "1"), ("outcome", "success")];
    for (name, value) in expected {
        assert_eq!(process.attributes[&format!("distillery.{name}")], value, "{name}");
    }
    let ended = server.process_ended("echo_once").await;
    assert_eq!(process.attributes["distillery.process"], ended.field("process"));
    assert_eq!(process.failure, None);
}

#[tokio::test]
async fn queue_wait_and_failure_are_traced() {
    let collector = Collector::new().await;
    let server = collector.builder().guest(Guest::component("hold")).set("limits.processes", 1).start().await;
    let mut first = call(&server, "hold", &[("traceparent", &traceparent("00"))]).await;
    first.line().await;
    let mut second = server.talk_with(&[("traceparent", &traceparent("01"))]).await;
    second.say(json!({"type": "call", "call": "hold"})).await;
    second.message("queued").await;
    first.cancel().await;
    first.finish().await.failure();
    second.stdout(8).await;
    second.signal("cancel").await;
    let whole = second.finish().await;
    let why = whole.failure("cancelled").to_owned();
    let spans = collector.spans(3).await;
    let (request, queue, process) = (named(&spans, "request"), named(&spans, "queue"), named(&spans, "process"));
    assert!([queue, process].iter().all(|span| span.parent == request.id && span.trace == TRACE), "{spans:#?}");
    assert!(queue.from <= process.from && queue.attributes["distillery.call"] == "hold", "{spans:#?}");
    assert_eq!(process.failure.as_deref(), Some(why.as_str()));
    assert_eq!(process.attributes["distillery.outcome"], "cancelled");
    assert_eq!(spans.len(), 3, "the first client asked for no trace: {spans:#?}");
}

#[tokio::test]
async fn keys_and_tokens_never_reach_the_collector() {
    let collector = Collector::new().await;
    let server = collector.builder().guest(Guest::component("hold")).set("traces.one_in", 1_000_000).start().await;
    let call = json!({"call": "hold", "params": []});
    let id = server.send_json(Method::POST, "/api/v1/pow/new", &[("traceparent", &traceparent("00"))], &call).await;
    let id = id.json().as_str().expect("an id").to_owned();
    let (bare, key) = id.split_once('.').expect("a key");
    let token = format!("dst_{}", key.repeat(2));
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let paths = [
        (format!("status/{id}"), 200),
        (format!("status/{bare}%2E{key}"), 200),
        (format!("status/{bare}.{encoded}"), 200),
        (format!("stauts/{id}"), 404),
        (format!("status/{bare}?key={key}"), 404),
        (format!("status/{token}"), 404),
    ];
    let bearer = format!("Bearer {token}");
    for (path, status) in &paths {
        let referer = format!("https://a.example/{id}");
        let headers = [("traceparent", traceparent("01")), ("referer", referer), ("x-forwarded-host", id.clone())];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = server.request(Method::GET, &format!("/api/v1/pow/{path}"), &headers).await;
        assert_eq!(answer.status, *status, "{path}");
    }
    let headers = [("traceparent", &traceparent("01")[..]), ("authorization", &bearer)];
    assert_eq!(server.request(Method::GET, "/api/v1/auth", &headers).await.status, 401);
    let spans = collector.spans(paths.len() + 1).await;
    let all = format!("{spans:?}");
    assert!(!all.contains(key) && !all.contains(&encoded) && !all.contains("dst_"), "{all}");
    assert!(spans.iter().any(|span| span.attributes["url.path"] == format!("/api/v1/pow/status/{bare}.***")), "{all}");
    server.operator(Method::DELETE, &format!("/api/v1/processes/{bare}?force=true")).await;
    server.process_ended("hold").await;
    let logged = server.log().lines().iter().any(|line| format!("{line:?}").contains(key));
    assert!(!logged, "the log contains a secret");
}

#[tokio::test]
async fn calls_without_a_trace_header_are_sampled() {
    let collector = Collector::new().await;
    let server = collector.builder().set("traces.one_in", 4).start().await;
    for _ in 0..8 {
        let stream = TcpStream::connect(server.address()).await.expect("a connection");
        get_over(stream, "/api/v1/news", &[]).await;
    }
    server.terminate();
    let spans = collector.spans(2).await;
    assert_eq!(spans.len(), 2);
    assert_ne!(spans[0].trace, spans[1].trace);
    assert!(spans.iter().all(|span| span.parent.is_empty() && span.attributes["url.path"] == "/api/v1/news"));
    server.wait().await;
}

#[tokio::test]
async fn failing_collector_is_harmless_and_logged_once() {
    let collector = Collector::new().await;
    let server = collector.builder().start().await;
    for _ in 0..2 {
        assert_eq!(server.get("/api/v1/auth").await.status.as_u16(), 200);
        collector.request("500 Oops").await;
    }
    server.get("/api/v1/auth").await;
    collector.spans(1).await;
    server.log().line("the recovery", |line| line.message() == "traces are sent again").await;
    let told = server.log().lines().iter().filter(|line| line.message().starts_with("traces cannot be sent")).count();
    assert_eq!(told, 1);
    drop(collector);
    server.get("/api/v1/auth").await;
    let again = |line: &distillery_tests::log::Line| line.message().starts_with("traces cannot be sent");
    server.log().lines_of("the collector to be missed", 2, again).await;
    assert_eq!(server.get("/api/v1/auth").await.status.as_u16(), 200);
}
