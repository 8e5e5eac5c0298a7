//! Names and addresses on this machine that no other run uses.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::cluster::Placement;

/// Runs at the same time on one machine.
const RUNS_MAX: u8 = 8;
/// Third byte of the first run's addresses, apart from the reference cluster's.
const SUBNET: u8 = 78;
/// First port of the first run, where hosts cannot be made.
const BASE_PORT: u16 = 24_700;
/// Ports of a run.
const PORTS: u16 = 50;

/// A number among the runs on this machine, kept until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    number: u8,
    _lock: Flock<File>,
}

impl Claim {
    /// The first number that nobody has.
    pub(super) fn take() -> Result<Self> {
        for number in 0..RUNS_MAX {
            let path = std::env::temp_dir().join(format!("xebec-chaos-{number}.lock"));
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o666).open(&path);
            let file = file.with_context(|| format!("cannot make {}", path.display()))?;
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("{RUNS_MAX} chaos runs are under way on this machine: wait for one to end")
    }

    /// Prefix of everything the run makes on the machine.
    pub(super) fn name(&self) -> String {
        format!("xchaos{}", self.number)
    }

    /// Hosts of their own as root, else the loopback address.
    pub(super) fn placement(&self) -> Placement {
        match nix::unistd::geteuid().is_root() {
            true => Placement::Namespaces { subnet: SUBNET + self.number },
            false => Placement::Loopback { base_port: BASE_PORT + PORTS * u16::from(self.number) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_have_the_same_number() {
        let (one, other) = (Claim::take().unwrap(), Claim::take().unwrap());
        assert_ne!(one.number, other.number);
        let freed = one.number;
        drop(one);
        let mut again = Vec::new();
        // Kept, or the same number would come again without end.
        while let Ok(claim) = Claim::take() {
            again.push(claim);
        }
        assert!(again.iter().any(|claim| claim.number == freed));
    }
}
