//! Histories: what every client asked and was told, when, and what was broken meanwhile. The format on disk is one
//! JSON object a line, described in `docs/chaos-history.md`.

mod action;
mod describe;
mod event;
mod facts;
mod reader;
mod record;
mod writer;

pub use action::{Action, Answer, MicroOperation};
pub use event::{
    Event, FORMAT_VERSION, Fault, FaultPhase, Header, KeyEvent, Leadership, Measure, PreviousValue, WatchMessage,
    WatchStep,
};
pub use facts::Facts;
pub use reader::{ReadError, read};
pub use record::{History, Operation, Outcome};
pub use writer::Writer;
