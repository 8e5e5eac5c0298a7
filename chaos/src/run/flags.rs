//! The command line of a run.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    faults::{self, FAULTS, Fault, Needs},
    plane::{self, Choice, PLANE_WORKLOADS, PlaneWorkload},
    workloads::{self, WORKLOADS, Workload},
};

/// What a power loss leaves of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DiskNames {
    /// What was synced in its directory.
    #[default]
    Strict,
    /// What came before anything that was synced.
    Journal,
}

/// Flags of `xebec chaos`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// How long to break things, like 90s, 10m or 3h.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub time: Duration,
    /// From which the schedule and all clients' choices follow [default: by chance, and told].
    #[arg(long)]
    pub seed: Option<u64>,
    /// Faults by name, comma-separated; `none` for none, `list` to list them [default: all that are possible].
    #[arg(long, value_delimiter = ',')]
    pub faults: Vec<String>,
    /// Workloads by name, comma-separated; `list` to list them [default: all].
    #[arg(long, value_delimiter = ',')]
    pub workload: Vec<String>,
    /// Client URLs of a store that runs already: it is only observed, faults are up to you.
    #[arg(long, value_delimiter = ',', conflicts_with = "etcd")]
    pub endpoints: Vec<String>,
    /// Work on a control plane of our own instead of a store: three masters, and this many hollow nodes on each worker host.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "2", conflicts_with_all = ["endpoints", "etcd"])]
    pub hollow: Option<u8>,
    /// Work on a control plane of our own with real containers.
    #[arg(long, conflicts_with_all = ["endpoints", "etcd", "hollow"])]
    pub reference: bool,
    /// Work on the cluster that a kubeconfig names: it is only observed, faults are up to you.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["endpoints", "etcd", "hollow", "reference"])]
    pub kubeconfig: Option<PathBuf>,
    /// A stock etcd program to start three members of, in place of xebec store.
    #[arg(long)]
    pub etcd: Option<PathBuf>,
    /// The xebec program to start three members of [default: this one].
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Another build of the program, for rolling upgrades, and back.
    #[arg(long, value_name = "BINARY")]
    pub upgrade_to: Option<PathBuf>,
    /// When members' disks save a name: when its directory is synced, or with anything that is synced, as ext4 and XFS do.
    #[arg(long, value_enum, default_value = "strict")]
    pub disk: DiskNames,
    /// End as soon as what was seen violates something: for runs that should fail.
    #[arg(long)]
    pub until_violated: bool,
    /// Judge the history in a run's folder again, and run nothing.
    #[arg(long, value_name = "FOLDER")]
    pub judge: Option<PathBuf>,
    /// Where the run's folder is made.
    #[arg(long, default_value = "chaos-runs")]
    pub out: PathBuf,
}

impl Flags {
    /// The faults that were asked for, or all that are possible with these means.
    ///
    /// # Errors
    /// A name is unknown, or what it takes is not there.
    pub(super) fn chosen_faults(&self, means: &[Needs]) -> Result<Vec<&'static Fault>> {
        let possible = |fault: &Fault| means.contains(&fault.needs);
        if self.faults.is_empty() {
            return Ok(FAULTS.iter().filter(|fault| possible(fault)).collect());
        }
        if self.faults == ["none"] {
            return Ok(Vec::new());
        }
        let mut chosen = Vec::new();
        for name in &self.faults {
            // A family by the beginning of its names: kill, pause.
            let named: Vec<_> = FAULTS
                .iter()
                .filter(|fault| fault.name == name || fault.name.split('-').next() == Some(name))
                .collect();
            let Some(fault) = faults::find(name).or(named.first().copied()) else { bail!("there is no fault {name}") };
            if !possible(fault) {
                bail!("{name} {}", fault.needs.sentence());
            }
            match faults::find(name) {
                Some(fault) => chosen.push(fault),
                None => chosen.extend(named.into_iter().filter(|fault| possible(fault))),
            }
        }
        Ok(chosen)
    }

    /// The workloads that were asked for.
    ///
    /// # Errors
    /// A name is unknown.
    pub(super) fn chosen_workloads(&self) -> Result<Vec<&'static Workload>> {
        if self.workload.is_empty() {
            return Ok(WORKLOADS.iter().collect());
        }
        let find = |name: &String| workloads::find(name).ok_or_else(|| anyhow::anyhow!("there is no workload {name}"));
        self.workload.iter().map(find).collect()
    }

    /// The control plane to work on; `None`: the run is one on a store.
    pub(super) fn plane(&self) -> Option<Choice> {
        if self.reference {
            return Some(Choice::Reference);
        }
        self.kubeconfig.clone().map(Choice::Kubeconfig).or(self.hollow.map(Choice::Hollow))
    }

    /// The control plane in words.
    pub(super) fn plane_in_words(&self) -> String {
        match self.plane() {
            Some(Choice::Hollow(_)) => "three masters of xebec with hollow nodes".to_owned(),
            Some(Choice::Reference) => "three masters of xebec with containers".to_owned(),
            Some(Choice::Kubeconfig(path)) => format!("the cluster of {}", path.display()),
            None => String::new(),
        }
    }

    /// The workloads on the control plane that were asked for.
    ///
    /// # Errors
    /// A name is unknown.
    pub(super) fn chosen_plane_workloads(&self) -> Result<Vec<&'static PlaneWorkload>> {
        if self.workload.is_empty() {
            return Ok(PLANE_WORKLOADS.iter().collect());
        }
        let find = |name: &String| {
            plane::find(name).ok_or_else(|| anyhow::anyhow!("there is no workload {name} on a control plane"))
        };
        self.workload.iter().map(find).collect()
    }

    /// The xebec program whose processes are started.
    ///
    /// # Errors
    /// This program cannot find itself.
    pub(super) fn program(&self) -> Result<PathBuf> {
        match &self.binary {
            Some(binary) => std::path::absolute(binary).context("cannot find the program"),
            None => std::env::current_exe().context("cannot find this program"),
        }
    }

    /// Whether something else than a run was asked for.
    pub fn runs_nothing(&self) -> bool {
        self.listing().is_some() || self.judge.is_some()
    }

    /// The list that was asked for instead of a run.
    pub(super) fn listing(&self) -> Option<String> {
        let lines = |rows: Vec<(&str, &str)>| {
            rows.iter().map(|(name, about)| format!("{name:<16}{about}\n")).collect::<String>()
        };
        if self.faults == ["list"] {
            return Some(lines(FAULTS.iter().map(|fault| (fault.name, fault.about)).collect()));
        }
        let asked = self.workload == ["list"];
        asked.then(|| {
            let stores = lines(WORKLOADS.iter().map(|workload| (workload.name, workload.about)).collect());
            let planes = lines(PLANE_WORKLOADS.iter().map(|workload| (workload.name, workload.about)).collect());
            format!("on a store:\n{stores}on a control plane (--hollow, --reference, --kubeconfig):\n{planes}")
        })
    }

    /// The command that repeats the run.
    pub(super) fn command(&self, seed: u64) -> String {
        let mut command = format!("xebec chaos --time {}s --seed {seed}", self.time.as_secs());
        let mut add = |flag: &str, value: String| {
            if !value.is_empty() {
                command += &format!(" {flag} {value}");
            }
        };
        add("--faults", self.faults.join(","));
        add("--workload", self.workload.join(","));
        add("--upgrade-to", self.upgrade_to.as_ref().map_or_else(String::new, |path| path.display().to_string()));
        add("--disk", if self.disk == DiskNames::Journal { "journal".to_owned() } else { String::new() });
        add("--endpoints", self.endpoints.join(","));
        add("--hollow", self.hollow.map_or_else(String::new, |nodes| nodes.to_string()));
        add("--kubeconfig", self.kubeconfig.as_ref().map_or_else(String::new, |path| path.display().to_string()));
        if self.reference {
            add("--reference", " ".to_owned());
        }
        add("--etcd", self.etcd.as_ref().map_or_else(String::new, |path| path.display().to_string()));
        command
    }
}

/// `90s`, `10m`, `3h`, or a plain number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).len());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no length of time"))?;
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(format!("{unit:?} is no unit: s, m or h")),
    };
    Ok(Duration::from_secs(number * seconds))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(arguments: &[&str]) -> Flags {
        Line::parse_from([&["x"], arguments].concat()).flags
    }

    const ALL: [Needs; 8] = [
        Needs::Processes,
        Needs::Networks,
        Needs::Disks,
        Needs::Clocks,
        Needs::Queues,
        Needs::Cgroups,
        Needs::Builds,
        Needs::Store,
    ];

    #[test]
    fn lengths_of_time_have_units() {
        let seconds = |text| flags(&["--time", text]).time.as_secs();
        assert_eq!([seconds("90"), seconds("90s"), seconds("10m"), seconds("3h")], [90, 90, 600, 10_800]);
        duration("10 parsecs").expect_err("no unit of time");
    }

    #[test]
    fn faults_are_chosen_by_name_or_family() {
        let names = |arguments: &[&str], rich| {
            let means = if rich { &ALL[..] } else { &ALL[..1] };
            let chosen = flags(arguments).chosen_faults(means)?;
            anyhow::Ok(chosen.iter().map(|fault| fault.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["--faults", "kill-leader,halves"], true).unwrap(), ["kill-leader", "halves"]);
        assert_eq!(names(&["--faults", "pause"], false).unwrap(), ["pause-leader", "pause-one", "pause-all"]);
        assert_eq!(names(&["--faults", "none"], true).unwrap(), Vec::<&str>::new());
        let of_planes = [Needs::ControlPlane, Needs::Nodes, Needs::Containers];
        let of_stores = FAULTS.iter().filter(|fault| !of_planes.contains(&fault.needs));
        assert_eq!(names(&[], true).unwrap().len(), of_stores.count());
        names(&["--faults", "kill-scheduler"], true).expect_err("a store has no scheduler");
        assert!(!names(&[], false).unwrap().contains(&"halves"));
        names(&["--faults", "halves"], false).expect_err("no networks");
        names(&["--faults", "meteor"], true).expect_err("no such fault");
    }

    #[test]
    fn the_command_repeats_the_run() {
        let command = flags(&["--time", "1m", "--faults", "kill", "--workload", "register,append"]).command(7);
        assert_eq!(command, "xebec chaos --time 60s --seed 7 --faults kill --workload register,append");
    }
}
