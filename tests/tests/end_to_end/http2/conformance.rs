//! The rules of RFC 9113 for wrong frames, one after the other, in the order of h2spec: that program is in no registry
//! of packages.

use distillery_tests::{
    http2::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING, PRIORITIZED, PRIORITY,
        PUSH_PROMISE, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, get, setting,
    },
    tls::{builder, connect_http2},
};

/// The errors that frames name.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// The expected reaction to some frames.
enum Wanted {
    /// The connection is closed; if a frame announces the close, with one of these errors.
    Closed(&'static [u32]),
    /// Stream 1 is reset or refused, or the connection closed: with one of these errors, or as a bad request.
    Refused(&'static [u32]),
    /// Stream 1 is answered.
    Answered,
    /// An acknowledgement of PING or SETTINGS.
    Acknowledged(u8),
}
use Wanted::{Acknowledged, Answered, Closed, Refused};

fn frame(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Returns a request of stream 1 with these headers.
fn request(headers: &[(&str, &str)]) -> Vec<Frame> {
    vec![frame(HEADERS, WHOLE, 1, block(headers))]
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "localhost");
const PATH: (&str, &str) = (":path", "/api/v1/auth");

/// Returns the cases of sections 4 to 6: the frames.
fn frames() -> Vec<(&'static str, Vec<Frame>, Wanted)> {
    let asked = || frame(HEADERS, WHOLE, 1, get("/api/v1/auth"));
    let open = || frame(HEADERS, END_HEADERS, 1, block(&[(":method", "POST"), SCHEME, AUTHORITY, PATH]));
    vec![
        ("4.1 an unknown frame is ignored", vec![frame(0x16, 0, 0, [0; 8]), asked()], Answered),
        (
            "4.2 a frame that is too large",
            vec![open(), frame(DATA, END_STREAM, 1, [0; 16_385])],
            Closed(&[FRAME_SIZE_ERROR]),
        ),
        ("4.3 a block that cannot be read", vec![frame(HEADERS, WHOLE, 1, [0xff; 8])], Closed(&[COMPRESSION_ERROR])),
        (
            "4.3 a block that another frame interrupts",
            vec![frame(HEADERS, 0, 1, get("/")), frame(PING, 0, 0, [0; 8])],
            Closed(&[PROTOCOL_ERROR]),
        ),
        (
            "4.3 a block of another stream within",
            vec![frame(HEADERS, 0, 1, get("/")), frame(CONTINUATION, END_HEADERS, 3, [])],
            Closed(&[PROTOCOL_ERROR]),
        ),
        ("5.1 data on an idle stream", vec![frame(DATA, END_STREAM, 1, *b"x")], Closed(&[PROTOCOL_ERROR])),
        ("5.1 a reset of an idle stream", vec![frame(RST_STREAM, 0, 1, [0, 0, 0, 8])], Closed(&[PROTOCOL_ERROR])),
        ("5.1 a window for an idle stream", vec![frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 9])], Closed(&[PROTOCOL_ERROR])),
        (
            "5.1 data behind the end of a stream",
            vec![asked(), frame(DATA, END_STREAM, 1, *b"x")],
            Closed(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        ("5.1.1 a stream of an even number", vec![frame(HEADERS, WHOLE, 2, get("/"))], Closed(&[PROTOCOL_ERROR])),
        (
            "5.1.1 a stream of a lower number",
            vec![frame(HEADERS, WHOLE, 5, get("/")), frame(HEADERS, WHOLE, 3, get("/"))],
            Closed(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        (
            "5.4.1 the server continues after an acknowledgement",
            vec![frame(PING, 0, 0, *b"whatever")],
            Acknowledged(PING),
        ),
        ("6.1 data of no stream", vec![frame(DATA, 0, 0, *b"x")], Closed(&[PROTOCOL_ERROR])),
        (
            "6.1 more padding than data",
            vec![open(), frame(DATA, PADDED | END_STREAM, 1, [9, 0, 0])],
            Closed(&[PROTOCOL_ERROR]),
        ),
        ("6.2 headers of no stream", vec![frame(HEADERS, WHOLE, 0, get("/"))], Closed(&[PROTOCOL_ERROR])),
        (
            "6.2 more padding than headers",
            vec![frame(HEADERS, WHOLE | PADDED, 1, [200, 0x82])],
            Closed(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        (
            "6.2 headers that depend on themselves",
            vec![frame(HEADERS, WHOLE | PRIORITIZED, 1, [&[0, 0, 0, 1, 9][..], &get("/")].concat())],
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("6.3 a priority of no stream", vec![frame(PRIORITY, 0, 0, [0, 0, 0, 0, 9])], Closed(&[PROTOCOL_ERROR])),
        (
            "6.3 a priority of another length",
            vec![frame(PRIORITY, 0, 1, [0; 4])],
            Closed(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        ("6.4 a reset of no stream", vec![frame(RST_STREAM, 0, 0, [0, 0, 0, 8])], Closed(&[PROTOCOL_ERROR])),
        ("6.4 a reset of another length", vec![open(), frame(RST_STREAM, 0, 1, [0; 3])], Closed(&[FRAME_SIZE_ERROR])),
        ("6.5 settings of a stream", vec![frame(SETTINGS, 0, 1, [])], Closed(&[PROTOCOL_ERROR])),
        (
            "6.5 an acknowledgement with something in it",
            vec![frame(SETTINGS, ACK, 0, [0])],
            Closed(&[FRAME_SIZE_ERROR]),
        ),
        ("6.5 settings of another length", vec![frame(SETTINGS, 0, 0, [0; 5])], Closed(&[FRAME_SIZE_ERROR])),
        ("6.5.2 push is on or off", vec![frame(SETTINGS, 0, 0, setting(2, 2))], Closed(&[PROTOCOL_ERROR])),
        (
            "6.5.2 a window that is too large",
            vec![frame(SETTINGS, 0, 0, setting(4, 1 << 31))],
            Closed(&[FLOW_CONTROL_ERROR]),
        ),
        ("6.5.2 frames that are too small", vec![frame(SETTINGS, 0, 0, setting(5, 16_383))], Closed(&[PROTOCOL_ERROR])),
        (
            "6.5.2 frames that are too large",
            vec![frame(SETTINGS, 0, 0, setting(5, 1 << 24))],
            Closed(&[PROTOCOL_ERROR]),
        ),
        ("6.5.2 an unknown setting is ignored", vec![frame(SETTINGS, 0, 0, setting(0xff, 1)), asked()], Answered),
        ("6.5.3 settings are acknowledged", vec![], Acknowledged(SETTINGS)),
        (
            "6.6 a client pushes nothing",
            vec![open(), frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])],
            Closed(&[PROTOCOL_ERROR]),
        ),
        ("6.7 a ping of a stream", vec![frame(PING, 0, 1, [0; 8])], Closed(&[PROTOCOL_ERROR])),
        ("6.7 a ping of another length", vec![frame(PING, 0, 0, [0; 6])], Closed(&[FRAME_SIZE_ERROR])),
        ("6.8 a goodbye of a stream", vec![frame(GOAWAY, 0, 1, [0; 8])], Closed(&[PROTOCOL_ERROR])),
        ("6.9 a window of nothing", vec![frame(WINDOW_UPDATE, 0, 0, [0; 4])], Closed(&[PROTOCOL_ERROR])),
        (
            "6.9 a window of nothing for a stream",
            vec![open(), frame(WINDOW_UPDATE, 0, 1, [0; 4])],
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("6.9 a window of another length", vec![frame(WINDOW_UPDATE, 0, 0, [0; 3])], Closed(&[FRAME_SIZE_ERROR])),
        (
            "6.9.1 a window that overflows",
            vec![
                frame(WINDOW_UPDATE, 0, 0, i32::MAX.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 0, i32::MAX.to_be_bytes()),
            ],
            Closed(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.9.1 a window of a stream that overflows",
            vec![
                open(),
                frame(WINDOW_UPDATE, 0, 1, i32::MAX.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 1, i32::MAX.to_be_bytes()),
            ],
            Refused(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.10 a continuation of nothing",
            vec![frame(CONTINUATION, END_HEADERS, 1, get("/"))],
            Closed(&[PROTOCOL_ERROR]),
        ),
        (
            "6.10 a continuation of no stream",
            vec![frame(HEADERS, 0, 1, get("/")), frame(CONTINUATION, END_HEADERS, 0, [])],
            Closed(&[PROTOCOL_ERROR]),
        ),
        (
            "6.10 headers in three frames are whole",
            vec![
                frame(HEADERS, END_STREAM, 1, get("/")),
                frame(CONTINUATION, 0, 1, []),
                frame(CONTINUATION, END_HEADERS, 1, block(&[("x", "y")])),
            ],
            Answered,
        ),
    ]
}

/// Returns the cases of section 8: the requests.
fn requests() -> Vec<(&'static str, Vec<Frame>, Wanted)> {
    let all = [METHOD, SCHEME, AUTHORITY, PATH];
    let with = |more: &[(&'static str, &'static str)]| request(&[&all[..], more].concat());
    let posted =
        |length: &'static str| block(&[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", length)]);
    vec![
        ("8.1 a request", request(&all), Answered),
        (
            "8.1 headers twice without an end",
            vec![frame(HEADERS, END_HEADERS, 1, posted("0")), frame(HEADERS, END_HEADERS, 1, get("/"))],
            Refused(&[PROTOCOL_ERROR]),
        ),
        (
            "8.1.1 less than was announced",
            vec![frame(HEADERS, END_HEADERS, 1, posted("5")), frame(DATA, END_STREAM, 1, *b"abc")],
            Refused(&[PROTOCOL_ERROR]),
        ),
        (
            "8.1.1 more than was announced",
            vec![frame(HEADERS, END_HEADERS, 1, posted("2")), frame(DATA, END_STREAM, 1, *b"abc")],
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("8.2.1 a name in upper case", with(&[("X-Test", "ok")]), Refused(&[PROTOCOL_ERROR])),
        ("8.2.2 a header of the connection", with(&[("connection", "keep-alive")]), Refused(&[PROTOCOL_ERROR])),
        ("8.2.2 a transfer encoding", with(&[("transfer-encoding", "chunked")]), Refused(&[PROTOCOL_ERROR])),
        ("8.2.2 te that is not trailers", with(&[("te", "gzip")]), Refused(&[PROTOCOL_ERROR])),
        ("8.3 an unknown header of HTTP/2 itself", with(&[(":test", "ok")]), Refused(&[PROTOCOL_ERROR])),
        ("8.3 one that only answers have", with(&[(":status", "200")]), Refused(&[PROTOCOL_ERROR])),
        (
            "8.3 one behind another header",
            request(&[METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH]),
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("8.3.1 without a method", request(&[SCHEME, AUTHORITY, PATH]), Refused(&[PROTOCOL_ERROR])),
        ("8.3.1 without a scheme", request(&[METHOD, AUTHORITY, PATH]), Refused(&[PROTOCOL_ERROR])),
        ("8.3.1 without a path", request(&[METHOD, SCHEME, AUTHORITY]), Refused(&[PROTOCOL_ERROR])),
        ("8.3.1 an empty path", request(&[METHOD, SCHEME, AUTHORITY, (":path", "")]), Refused(&[PROTOCOL_ERROR])),
        ("8.3.1 two methods", request(&[METHOD, METHOD, SCHEME, AUTHORITY, PATH]), Refused(&[PROTOCOL_ERROR])),
        ("8.3.1 two paths", request(&[METHOD, SCHEME, AUTHORITY, PATH, PATH]), Refused(&[PROTOCOL_ERROR])),
        ("8.3.1 two schemes", request(&[METHOD, SCHEME, SCHEME, AUTHORITY, PATH]), Refused(&[PROTOCOL_ERROR])),
    ]
}

#[tokio::test]
async fn frames_and_requests_conform_to_rfc_9113() {
    // Answers need no window; an unannounced error ends the connection once it is idle.
    let server = builder().set("http.header_timeout", "2s").start().await;
    let (mut wrong, mut general) = (Vec::new(), Vec::new());
    let cases: Vec<_> = frames().into_iter().chain(requests()).collect();
    let count = cases.len();
    for (name, frames, wanted) in cases {
        let mut raw = Raw::open(connect_http2(&server).await, Vec::new()).await;
        raw.send(&frames).await;
        match outcome(&mut raw, &wanted).await {
            Ok(()) => {}
            Err(Some(PROTOCOL_ERROR)) if matches!(wanted, Closed(_)) => general.push(name),
            Err(found) => wrong.push(format!("{name}: {found:?}")),
        }
    }
    eprintln!("{} of {count} rules of RFC 9113 hold, {} with a general error", count - wrong.len(), general.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(general, GENERAL);
}

/// The library closes the connection correctly here, but names the error PROTOCOL_ERROR.
const GENERAL: [&str; 7] = [
    "4.3 a block that cannot be read",
    "6.4 a reset of another length",
    "6.5 an acknowledgement with something in it",
    "6.5 settings of another length",
    "6.5.2 a window that is too large",
    "6.7 a ping of another length",
    "6.9 a window of another length",
];

/// Checks that the expected reaction has come; if not, returns the error that did.
async fn outcome<S>(raw: &mut Raw<S>, wanted: &Wanted) -> Result<(), Option<u32>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let Some(frame) = raw.next().await else {
            return match wanted {
                Closed(_) | Refused(_) => Ok(()),
                Answered | Acknowledged(_) => Err(None),
            };
        };
        match (wanted, frame.error()) {
            (Acknowledged(kind), _) if frame.kind == *kind && frame.flags & ACK != 0 => return Ok(()),
            (Answered, None) if frame.kind == HEADERS && frame.stream == 1 => return Ok(()),
            // An idle connection gets a GOAWAY without an error: then the server did not notice the violation.
            (Closed(errors), Some(error)) if frame.kind == GOAWAY => return among(errors, error),
            (Refused(errors), Some(error)) => return among(errors, error),
            (Refused(_), None) if frame.kind == HEADERS && frame.status() == Some(400) => return Ok(()),
            (Answered | Acknowledged(_), Some(error)) => return Err(Some(error)),
            _ => {}
        }
    }
}

fn among(errors: &[u32], error: u32) -> Result<(), Option<u32>> {
    if errors.contains(&error) { Ok(()) } else { Err(Some(error)) }
}
