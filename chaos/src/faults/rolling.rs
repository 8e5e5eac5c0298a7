//! Maintenance: one member after the other is stopped and started, as it is or as another build.

use std::{fmt, path::PathBuf};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;

use super::{Deed, Scene, membership::serving};
use crate::stores::Hosts;

/// Members are restarted in turn; the next one when the one before serves again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolling {
    upgrade: bool,
    /// What they run from now on.
    program: Option<PathBuf>,
}

/// As they are.
pub(super) fn restart(_: Scene, _: &mut StdRng) -> Deed {
    Deed::Rolling(Rolling { upgrade: false, program: None })
}

/// As the build of `--upgrade-to`; when all of them are, back again.
pub(super) fn upgrade(_: Scene, _: &mut StdRng) -> Deed {
    Deed::Rolling(Rolling { upgrade: true, program: None })
}

impl Rolling {
    pub(super) async fn inject(&mut self, hosts: &Hosts) -> Result<()> {
        if self.upgrade {
            self.program = Some(hosts.next_program().context("there is nothing to upgrade to")?);
        }
        for member in hosts.members() {
            member.stop()?;
            if let Some(program) = &self.program {
                member.runs(program);
            }
            member.start()?;
            serving(member).await?;
        }
        Ok(())
    }

    pub(super) async fn heal(&self, hosts: &Hosts) -> Result<()> {
        for member in hosts.members() {
            member.start()?;
            serving(member).await?;
        }
        Ok(())
    }
}

impl fmt::Display for Rolling {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(out, "m1 m2 m3 to {}", program.display()),
            None => write!(out, "m1 m2 m3"),
        }
    }
}
