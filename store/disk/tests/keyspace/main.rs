//! The keyspace on disk: that it says what the model says, survives, and refuses damage.

mod agreement;
mod commands;
mod damage;
mod recovery;
