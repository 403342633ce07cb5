//! Log lines that are safe for a terminal. The value of a field, wherever it comes from, cannot begin a line of its
//! own, and cannot contain terminal sequences.

use distillery_core::harmless::{Escaping, Json, is_harmful};
use std::{
    fmt::{self, Debug, Write as _},
    io::{self, Write},
};
use tracing::field::Field;
use tracing_subscriber::fmt::{MakeWriter, format::Writer};

/// Writes a field as text: the message as it is, other fields with their name.
pub(super) fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        name => write!(writer, "{name}=")?,
    }
    write!(Escaping(writer), "{value:?}")
}

/// A formatter of JSON lines.
pub(super) struct JsonLines<M>(pub M);

/// A writer of one JSON line.
pub(super) struct JsonLine<W>(W);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for JsonLines<M> {
    type Writer = JsonLine<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        JsonLine(self.0.make_writer())
    }
}

impl<W: Write> Write for JsonLine<W> {
    /// Takes whole lines from the log.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line)) {
            Ok(text) if text.contains(is_harmful) => self.0.write_all(format!("{}\n", Json(text)).as_bytes())?,
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
