//! From events to lines.

use std::io::{self, Write};

use super::{Event, Header};

/// Writes a history, line by line.
#[derive(Debug)]
pub struct Writer<W: Write> {
    sink: W,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// The sink fails.
    pub fn new(mut sink: W, header: &Header) -> io::Result<Self> {
        serde_json::to_writer(&mut sink, header)?;
        sink.write_all(b"\n")?;
        Ok(Self { sink })
    }

    /// Writes one event.
    ///
    /// # Errors
    /// The sink fails.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.sink, event)?;
        self.sink.write_all(b"\n")
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// The sink fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
