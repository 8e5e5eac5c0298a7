//! What a request asks for: its place in the URL space, its options and the media type it wants back.

mod accept;
mod info;
mod options;

pub use accept::{
    MediaType, NegotiationError, Transform, Wanted, negotiate_discovery, negotiate_input, negotiate_output,
};
pub use info::{RequestInfo, Verb};
pub use options::{
    DeleteOptions, FieldValidation, ListOptions, OptionsError, Propagation, Query, ResourceVersionMatch, WriteOptions,
};
