//! A call over plain HTTP whose body leaves, and whose answer is read, piece by piece.

use crate::{Server, patiently, tls};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};

/// The pieces of a body that are still to leave.
#[derive(Debug)]
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A request under way. Dropping it drops the connection.
#[derive(Debug)]
pub struct Exchange {
    input: Option<mpsc::Sender<Bytes>>,
    answering: Option<JoinHandle<Response<Incoming>>>,
    answer: Option<Incoming>,
    /// Output that was received and not read yet.
    read: Vec<u8>,
    trailers: HeaderMap,
    connection: JoinHandle<()>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.answering.iter().for_each(JoinHandle::abort);
        self.connection.abort();
    }
}

impl Server {
    /// Begins a POST over HTTP/1.1.
    pub async fn exchange(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        let stream = TcpStream::connect(self.address()).await.expect("the server takes connections");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let connection = tokio::spawn(async move { _ = connection.await });
        let uri = path.to_owned();
        let request = request(&uri, headers).header("host", "localhost");
        Exchange::begin(connection, |pieces| {
            let sending = sender.send_request(request.body(pieces).expect("a request"));
            tokio::spawn(async move {
                let answer = sending.await.expect("an answer");
                // The connection closes once there is no sender.
                drop(sender);
                answer
            })
        })
    }

    /// Begins a POST over HTTP/2.
    pub async fn exchange_over_http2(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        let stream = TokioIo::new(tls::connect_http2(self).await);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
        let connection = tokio::spawn(async move { _ = connection.await });
        let request = request(&format!("https://localhost{path}"), headers);
        Exchange::begin(connection, |pieces| {
            let sending = sender.send_request(request.body(pieces).expect("a request"));
            tokio::spawn(async move { sending.await.expect("an answer") })
        })
    }
}

fn request(uri: &str, headers: &[(&str, &str)]) -> hyper::http::request::Builder {
    let request = Request::builder().method("POST").uri(uri).header("te", "trailers");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

impl Exchange {
    fn begin(connection: JoinHandle<()>, send: impl FnOnce(Pieces) -> JoinHandle<Response<Incoming>>) -> Self {
        let (input, pieces) = mpsc::channel(1);
        Self {
            input: Some(input),
            answering: Some(send(Pieces(pieces))),
            answer: None,
            read: Vec::new(),
            trailers: HeaderMap::new(),
            connection,
        }
    }

    /// Sends a piece of the body, as soon as the connection takes it.
    pub async fn give(&mut self, piece: impl Into<Bytes>) {
        let input = self.input.as_ref().expect("the body has not ended");
        patiently("a piece of the body to leave", input.send(piece.into())).await.expect("the body is read");
    }

    /// Returns what sends the body, to send it beside reading the answer.
    pub fn input(&mut self) -> mpsc::Sender<Bytes> {
        self.input.take().expect("the body has not ended")
    }

    /// Ends the body.
    pub fn end(&mut self) {
        self.input = None;
    }

    /// Waits for the head of the answer.
    pub async fn head(&mut self) -> (StatusCode, HeaderMap) {
        let answering = self.answering.take().expect("the head is read once");
        let (head, body) = patiently("an answer", answering).await.expect("an answer").into_parts();
        self.answer = Some(body);
        (head.status, head.headers)
    }

    /// Returns the next piece of the answer, `None` at its end. An answer that breaks off is an error.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        if self.answer.is_none() {
            self.head().await;
        }
        let answer = self.answer.as_mut().expect("the head is read");
        loop {
            let Some(frame) = patiently("a piece of the answer", answer.frame()).await.transpose()? else {
                return Ok(None);
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
    }

    /// Returns so many bytes of the answer.
    pub async fn bytes(&mut self, many: usize) -> Vec<u8> {
        while self.read.len() < many {
            let piece = self.piece().await.expect("the answer continues").expect("the answer continues");
            self.read.extend_from_slice(&piece);
        }
        self.read.drain(..many).collect()
    }

    /// Returns the rest of the answer, and its trailers.
    pub async fn rest(&mut self) -> (Vec<u8>, HeaderMap) {
        while let Some(piece) = self.piece().await.expect("the answer is complete") {
            self.read.extend_from_slice(&piece);
        }
        (std::mem::take(&mut self.read), std::mem::take(&mut self.trailers))
    }

    /// Returns the next line of an answer in lines of JSON.
    pub async fn message(&mut self) -> Value {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("each line is JSON");
            }
            let piece = self.piece().await.expect("the answer continues").expect("the answer continues");
            self.read.extend_from_slice(&piece);
        }
    }
}
