//! The lines of the log, made harmless for a terminal: a value of a field can neither begin a line of its own nor bring
//! along sequences that a terminal obeys, wherever it comes from.

use crate::harmless::{Escaping, Json, is_harmful};
use std::{
    fmt::{self, Debug, Write as _},
    io::{self, Write},
};
use tracing::field::Field;
use tracing_subscriber::fmt::{MakeWriter, format::Writer};

/// Writes a field as text: the message as it is, others with their name.
pub(super) fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        name => write!(writer, "{name}=")?,
    }
    write!(Escaping(writer), "{value:?}")
}

/// Writes lines of JSON.
pub(super) struct JsonLines<M>(pub M);

/// Writes one line of JSON.
pub(super) struct JsonLine<W>(W);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for JsonLines<M> {
    type Writer = JsonLine<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        JsonLine(self.0.make_writer())
    }
}

impl<W: Write> Write for JsonLine<W> {
    /// Takes whole lines, as the log writes them.
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
