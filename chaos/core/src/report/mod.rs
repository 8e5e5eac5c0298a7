//! A run as one HTML page that a person wants to read: no resources but itself, light and dark, drawn by pure code.

mod axis;
mod counterexample;
mod figures;
mod gaps;
mod lanes;
mod page;
mod panels;
mod spread;

pub use figures::{Distribution, FaultGap, Figures};
pub use page::render;
pub use spread::{Spread, spreads};
