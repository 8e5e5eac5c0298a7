//! A running member's passport: kept in memory, replaced on disk.

use std::{collections::BTreeMap, path::PathBuf};

use parking_lot::Mutex;

use crate::{
    error::StartError,
    identity::{Passport, Stage},
    types::MemberId,
};

/// The passport and where it is kept.
#[derive(Debug)]
pub(crate) struct Papers {
    dir: PathBuf,
    passport: Mutex<Passport>,
}

impl Papers {
    pub fn new(dir: PathBuf, passport: Passport) -> Self {
        Self { dir, passport: Mutex::new(passport) }
    }

    pub fn passport(&self) -> Passport {
        self.passport.lock().clone()
    }

    pub fn incarnation(&self) -> u64 {
        self.passport.lock().incarnation
    }

    /// Whether this member may vote and acknowledge.
    pub fn takes_part(&self) -> bool {
        self.passport.lock().stage == Stage::TakesPart
    }

    /// Goes on to another stage, durably before it counts. Blocks on the disk.
    pub fn advance(&self, stage: Stage, witnesses: Option<BTreeMap<MemberId, u64>>) -> Result<(), StartError> {
        let mut passport = self.passport.lock();
        let mut next = Passport { stage, ..passport.clone() };
        if let Some(witnesses) = witnesses {
            next.witnesses = witnesses;
        }
        next.write(&self.dir)?;
        *passport = next;
        Ok(())
    }
}
