//! A strict client of `pow-1`: text is text, there is one result, and then a close of 1000 without a reason and the end
//! of the connection.

use crate::{
    client::{next_but_pings, upgraded},
    patiently,
    server::Server,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// One socket.
#[derive(Debug)]
pub struct Pow(WebSocketStream<TcpStream>);

/// All messages until the end.
#[derive(Debug)]
pub struct Told {
    pub text: String,
    pub result: Value,
}

impl Told {
    #[track_caller]
    pub fn value(self) -> Value {
        assert_eq!(self.result["status"], "fulfilled", "{self:?}");
        self.result["value"].clone()
    }

    #[track_caller]
    pub fn reason(&self) -> &str {
        assert_eq!(self.result["status"], "rejected", "{self:?}");
        self.result["reason"].as_str().expect("a reason is a string")
    }
}

impl Server {
    /// Opens a socket at any path without sending a message.
    pub async fn pow(&self, path: &str) -> Pow {
        let stream = TcpStream::connect(self.address()).await.expect("the server takes connections");
        let headers = [("sec-websocket-protocol", "pow-1")];
        let (socket, protocol) = upgraded(stream, self.address(), path, &headers).await.expect("the server takes it");
        assert_eq!(protocol.as_deref(), Some("pow-1"));
        Pow(socket)
    }

    /// Opens a socket and calls `name`.
    pub async fn pow_call(&self, name: &str, params: &[&str]) -> Pow {
        let mut pow = self.pow("/api/v1/pow/").await;
        pow.control(json!({"call": name, "params": params})).await;
        pow
    }
}

impl Pow {
    pub async fn control(&mut self, message: Value) {
        self.send(Message::binary(message.to_string())).await;
    }

    pub async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub async fn send(&mut self, message: Message) {
        patiently("a frame to leave", self.0.send(message)).await.expect("the server is there");
    }

    /// Waits for a ping of the server.
    pub async fn pinged(&mut self) {
        match patiently("a ping", self.0.next()).await {
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("instead of a ping came {other:?}"),
        }
    }

    /// Returns the next text, once there is as much as `wanted`.
    pub async fn hear(&mut self, wanted: &str) {
        let mut text = String::new();
        while text.len() < wanted.len() {
            match next_but_pings(&mut self.0).await {
                Some(Ok(Message::Text(more))) => text += &more,
                other => panic!("instead of {wanted:?} came {text:?} and {other:?}"),
            }
        }
        assert_eq!(text, wanted);
    }

    pub async fn finish(mut self) -> Told {
        let mut text = String::new();
        let result = loop {
            match next_but_pings(&mut self.0).await {
                Some(Ok(Message::Text(more))) => text += &more,
                Some(Ok(Message::Binary(json))) => {
                    let result: Value = serde_json::from_slice(&json).expect("a result is JSON");
                    let keys: Vec<_> = result.as_object().expect("an object").keys().cloned().collect();
                    assert!(
                        [["status", "value"], ["reason", "status"]].iter().any(|known| *known == keys[..]),
                        "{keys:?}"
                    );
                    break result;
                }
                other => panic!("instead of a result came {other:?} after {text:?}"),
            }
        };
        match patiently("the close", self.0.next()).await {
            Some(Ok(Message::Close(Some(close)))) => {
                assert_eq!((u16::from(close.code), close.reason.as_str()), (1000, ""));
            }
            other => panic!("after the result came {other:?}"),
        }
        // The connection itself ends too.
        assert!(patiently("the end of the connection", self.0.next()).await.is_none());
        Told { text, result }
    }
}
