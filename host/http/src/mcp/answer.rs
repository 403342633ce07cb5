//! The output of a call as the content of a result.

use super::run::Outcome;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use distillery_core::stream::Stream;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::Value;

/// The maximum size of the output in a result. Clients put it into the context of a model.
const OUTPUT: usize = 1 << 20;
/// The maximum size of a question.
const QUESTION: usize = 4 << 10;

/// The output of a call so far.
#[derive(Default)]
pub(super) struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Bytes that are left out.
    dropped: usize,
    /// How much of stdout was in earlier questions.
    asked: usize,
}

impl Collected {
    pub fn add(&mut self, stream: Stream, bytes: &[u8]) {
        let room = OUTPUT.saturating_sub(self.stdout.len() + self.stderr.len());
        let kept = &bytes[..bytes.len().min(room)];
        self.dropped += bytes.len() - kept.len();
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(kept),
            Stream::Stderr => self.stderr.extend_from_slice(kept),
        }
    }

    /// Returns whether the call has written the beginning of a line since its last question: a prompt.
    pub fn is_prompt(&self) -> bool {
        self.stdout.len() > self.asked && self.stdout.last() != Some(&b'\n')
    }

    /// Returns what the call has written since its last question: the last part of it, if it is long.
    pub fn question(&mut self, call: &str) -> String {
        let new = &self.stdout[self.asked.min(self.stdout.len())..];
        self.asked = self.stdout.len();
        let text = String::from_utf8_lossy(&new[new.len().saturating_sub(QUESTION)..]);
        match text.trim() {
            "" => format!("{call} waits for a line of input"),
            text => text.to_owned(),
        }
    }

    /// Returns the last line of stdout that is complete.
    pub fn last_line(&self) -> Option<String> {
        let end = self.stdout.iter().rposition(|byte| *byte == b'\n')?;
        let start = self.stdout[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = &self.stdout[start..end.min(start + QUESTION)];
        Some(String::from_utf8_lossy(line).trim_end().to_owned())
    }

    /// Returns the result of a call that has ended.
    pub fn result(self, outcome: Outcome) -> CallToolResult {
        let mut content = Vec::new();
        if !self.stdout.is_empty() {
            content.push(block(&self.stdout));
        }
        if !self.stderr.is_empty() {
            content.push(ContentBlock::text(format!("stderr:\n{}", String::from_utf8_lossy(&self.stderr))));
        }
        if self.dropped > 0 {
            content.push(ContentBlock::text(format!("({} more bytes of output are left out)", self.dropped)));
        }
        if !outcome.success {
            content.push(ContentBlock::text(outcome.message.unwrap_or_else(|| "the call failed".to_owned())));
            return CallToolResult::error(content);
        }
        if outcome.value.is_null() {
            return CallToolResult::success(content);
        }
        // Clients without structured content read it as text.
        content.push(ContentBlock::text(outcome.value.to_string()));
        let mut result = CallToolResult::success(content);
        result.structured_content = Some(match outcome.value {
            object @ Value::Object(_) => object,
            value => serde_json::json!({ "value": value }),
        });
        result
    }
}

/// Returns output as an image or as sound if it is one, and otherwise as text.
fn block(output: &[u8]) -> ContentBlock {
    match media(output) {
        Some(media) if media.starts_with("image/") => ContentBlock::image(BASE64.encode(output), media),
        Some(media) => ContentBlock::audio(BASE64.encode(output), media),
        None => ContentBlock::text(String::from_utf8_lossy(output)),
    }
}

/// Returns the media type of an image or of sound, by its first bytes.
fn media(output: &[u8]) -> Option<&'static str> {
    match output {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some("audio/wav"),
        [b'I', b'D', b'3', ..] => Some("audio/mpeg"),
        [b'O', b'g', b'g', b'S', ..] => Some("audio/ogg"),
        [b'f', b'L', b'a', b'C', ..] => Some("audio/flac"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn collected(stdout: &[u8]) -> Collected {
        let mut collected = Collected::default();
        collected.add(Stream::Stdout, stdout);
        collected
    }

    fn result(stdout: &[u8], success: bool, value: Value) -> Value {
        let outcome = Outcome { success, message: (!success).then(|| "exit status 7".to_owned()), value };
        serde_json::to_value(collected(stdout).result(outcome)).unwrap()
    }

    #[test]
    fn content_is_the_output_and_structure_the_value() {
        let said = result(b"hello\n", true, json!({"a": 1}));
        assert_eq!(
            said["content"],
            json!([{"type": "text", "text": "hello\n"}, {"type": "text", "text": "{\"a\":1}"}])
        );
        assert_eq!((&said["structuredContent"], &said["isError"]), (&json!({"a": 1}), &json!(false)));
        assert_eq!(result(b"", true, json!([1]))["structuredContent"], json!({"value": [1]}));
        let failed = result(b"half", false, Value::Null);
        assert_eq!(
            failed["content"],
            json!([{"type": "text", "text": "half"}, {"type": "text", "text": "exit status 7"}])
        );
        assert_eq!(failed["isError"], json!(true));
    }

    #[test]
    fn images_and_sound_are_what_they_are() {
        let image = &result(b"\x89PNG\r\n\x1a\nrest", true, Value::Null)["content"][0];
        assert_eq!((&image["type"], &image["mimeType"]), (&json!("image"), &json!("image/png")));
        let sound = &result(b"RIFF\0\0\0\0WAVEfmt ", true, Value::Null)["content"][0];
        assert_eq!((&sound["type"], &sound["mimeType"]), (&json!("audio"), &json!("audio/wav")));
    }

    #[test]
    fn output_is_bounded_and_says_so() {
        let mut collected = Collected::default();
        for _ in 0..3 {
            collected.add(Stream::Stdout, &vec![b'x'; OUTPUT / 2]);
        }
        assert_eq!(collected.stdout.len(), OUTPUT);
        let outcome = Outcome { success: true, ..Outcome::default() };
        let said = serde_json::to_value(collected.result(outcome)).unwrap();
        assert_eq!(said["content"][1]["text"], format!("({} more bytes of output are left out)", OUTPUT / 2));
    }

    #[test]
    fn question_is_what_was_written_since_the_last() {
        let mut collected = collected(b"Your name? ");
        assert!(collected.is_prompt());
        assert_eq!(collected.question("ask"), "Your name?");
        assert!(!collected.is_prompt());
        assert_eq!(collected.question("ask"), "ask waits for a line of input");
        collected.add(Stream::Stdout, b"Hello\nYour age? ");
        assert_eq!(collected.question("ask"), "Hello\nYour age?");
        assert_eq!(collected.last_line().as_deref(), Some("Your name? Hello"));
    }
}
