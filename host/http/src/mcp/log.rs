//! What calls write to stderr, as log messages. The newest version of the protocol has none any more.

use parking_lot::Mutex;
use rmcp::{
    RoleServer,
    model::{LoggingLevel, LoggingMessageNotificationParam, ServerCapabilities, SetLevelRequestParams},
    service::Peer,
};

pub(super) type Level = SetLevelRequestParams;

/// Returns what this server offers: tools that change, and log messages.
pub(super) fn capabilities() -> ServerCapabilities {
    ServerCapabilities::builder().enable_tools().enable_tool_list_changed().enable_logging().build()
}

/// The least level of the messages that a client wants.
pub(super) struct Log(Mutex<LoggingLevel>);

impl Default for Log {
    fn default() -> Self {
        Self(Mutex::new(LoggingLevel::Info))
    }
}

impl Log {
    pub fn set(&self, level: &Level) {
        *self.0.lock() = level.level;
    }

    /// Sends what a call has written, if its plugin forwards it and the client wants it.
    pub async fn tell(&self, peer: &Peer<RoleServer>, call: &str, bytes: &[u8]) {
        if matches!(*self.0.lock(), LoggingLevel::Debug | LoggingLevel::Info) {
            let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
            let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, text.into()).with_logger(call);
            // The result has it too.
            let _ = peer.notify_logging_message(message).await;
        }
    }
}
