//! What a chaos run saw, and whether it may have seen it: histories of client operations and the checkers that judge
//! them. Pure: whoever runs clients (the chaos runtime, the store's simulation) records a [`history::History`], the
//! checkers answer with a [`verdict::Verdict`].

pub mod checks;
pub mod cycles;
pub mod history;
pub mod linear;
pub mod live;
pub mod report;
pub mod verdict;

#[cfg(test)]
mod made;
