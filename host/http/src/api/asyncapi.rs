//! The AsyncAPI document of the websocket. Each protocol has a file that adds itself here.

mod distillery1;
mod lines;
mod pow1;

use super::openapi::Schemas;
use serde_json::{Map, Value, json};

const ABOUT: &str = "\
Calls are run over a websocket: one socket for one call. The header `Sec-WebSocket-Protocol` selects the protocol when \
the socket is opened; if the server supports none of the offered ones, the protocol of lines is used.

A client that does not send its call in time gets a failure. The server pings a silent client, and a client that stays \
silent counts as disconnected. A frame that is too large gets a failure and the close code 1009. A frame that breaks the \
rules of websockets gets 1002, and text that is not UTF-8 gets 1007. A client's close frame is answered at once, \
regardless of the state of its call. A page of another origin can open a socket only if its origin is listed in \
`http.origins`. Callers authenticate as on other routes: by a token in the header `Authorization`, by a session cookie, \
or, for pages of other origins, by a subprotocol `distillery.token.<token>` in addition to the wanted protocol. \
`openapi.json` describes the rest of the API.";

/// One protocol of the socket: its channel, and its messages in each direction.
struct Protocol {
    /// The name of the channel, and the default prefix of its operations' names.
    name: &'static str,
    channel: Value,
    /// The operations by name.
    operations: Map<String, Value>,
}

/// The sender of a message. The document takes the server's view.
#[derive(Clone, Copy)]
enum From {
    Client,
    Server,
}

impl Protocol {
    fn new(name: &'static str, title: &str, address: &str, description: &str, headers: &Value) -> Self {
        let channel = json!({
            "address": address,
            "title": title,
            "description": description,
            "servers": [{"$ref": "#/servers/here"}],
            "messages": {},
            "bindings": {"ws": {"method": "GET", "headers": headers, "bindingVersion": "0.1.0"}},
        });
        Self { name, channel, operations: Map::new() }
    }

    fn says(mut self, from: From, operation: &str, summary: &str, message: &str, about: Value) -> Self {
        let at = format!("#/channels/{}", self.name);
        let told = json!({
            "action": match from { From::Client => "receive", From::Server => "send" },
            "summary": summary,
            "channel": {"$ref": at},
            "messages": [{"$ref": format!("{at}/messages/{message}")}],
            // The order of the operations: JSON objects have none.
            "x-place": self.operations.len(),
        });
        self.channel["messages"][message] = about;
        self.operations.insert(operation.to_owned(), told);
        self
    }

    /// Adds predefined messages, by names such as `client.call`.
    fn says_all(self, messages: &str) -> Self {
        let messages: Map<String, Value> = serde_json::from_str(messages).expect("it is a part of the program");
        messages.into_iter().fold(self, |protocol, (name, about)| {
            let from = if name.starts_with("client.") { From::Client } else { From::Server };
            let operation = format!("{}.{name}", protocol.name);
            let summary = about["summary"].as_str().unwrap_or_default().to_owned();
            protocol.says(from, &operation, &summary, &name, about)
        })
    }
}

/// Returns the headers of a request that offers this subprotocol.
fn offers(subprotocol: &str) -> Value {
    json!({
        "type": "object",
        "required": ["Sec-WebSocket-Protocol"],
        "properties": {"Sec-WebSocket-Protocol": {"type": "string", "const": subprotocol}},
    })
}

/// Returns the document of all protocols.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new("/components/schemas");
    let protocols = [lines::protocol(&mut schemas), distillery1::protocol(), pow1::protocol()];
    let mut channels = Map::new();
    let mut operations = Map::new();
    for protocol in protocols {
        channels.insert(protocol.name.to_owned(), protocol.channel);
        operations.extend(protocol.operations);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "distillery",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "here": {
                "host": "localhost:8080",
                "protocol": "ws",
                "description": "As distillery.yaml is shipped; behind TLS it is wss",
                "security": [
                    {"type": "http", "scheme": "bearer", "description": "A token"},
                    {"type": "httpApiKey", "in": "cookie", "name": super::auth::SESSION, "description": "A session"},
                    {
                        "type": "httpApiKey", "in": "header", "name": "Sec-WebSocket-Protocol",
                        "description": "A token of a page, as one of the subprotocols: distillery.token.<token>",
                    },
                ],
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas.finish()},
    })
}
