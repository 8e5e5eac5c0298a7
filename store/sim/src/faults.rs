//! What goes wrong, and when: a schedule that follows from the seed.

use std::{fs, io, path::PathBuf};

use xebec_store_dice::Dice;

use crate::{
    checks::space::Shortage,
    client::Rumour,
    disk::{DiskSpeed, Ending},
    machine::{HEALTHY, Happened, Machine},
    network::{Network, Weather},
    operator::Board,
    trace::Trace,
};

mod estate;

use estate::Estate;

/// Milliseconds between two faults, at least and less than.
const PAUSE_MILLIS: (u64, u64) = (150, 2_500);

/// How many partitions leave one member behind, and then move to the leader.
const LEFT_BEHIND_PERCENT: u64 = 30;

/// What was damaged while a member was down, and what undoes it.
enum Flipped {
    Log { what: String, backup: Vec<(PathBuf, Vec<u8>)> },
    Keyspace { what: String, path: PathBuf, contents: Vec<u8> },
}

#[derive(Default)]
struct Patient {
    start_at: Option<u64>,
    heal_disk_at: Option<u64>,
    space_at: Option<u64>,
    flipped: Option<Flipped>,
    garbage: bool,
    /// Whether a fault explains that Raft stops.
    may_stop: bool,
    /// Whether the last ending left nothing unsynced.
    clean: bool,
}

/// Cuts a machine off from all others, but not from the clients.
fn isolate(id: usize, machines: usize, network: &Network) {
    for other in (0..machines).filter(|other| *other != id) {
        network.set_cut(id, other, true);
        network.set_cut(other, id, true);
    }
}

/// The faults of a run.
pub struct Faults {
    dice: Dice,
    next_at: u64,
    heal_at: Option<u64>,
    /// Whether the partition moves to the leader when it ends.
    moves_to_leader: bool,
    fair_at: Option<u64>,
    patients: Vec<Patient>,
    estate: Estate,
    trace: Trace,
    rumour: Rumour,
    /// Left out of what is noted, since it has another name in every run.
    directory: String,
    /// Faults so far.
    pub count: u64,
    /// When clocks jumped, in simulated milliseconds.
    pub jumps: Vec<u64>,
    /// Times without space for a member's keyspace.
    pub shortages: Vec<Shortage>,
    /// Damage that members refused to start on.
    pub refusals: u64,
}

impl Faults {
    /// A schedule for so many machines, of which the first have members.
    #[must_use]
    pub fn new(
        machines: usize,
        members: usize,
        board: Board,
        mut dice: Dice,
        trace: Trace,
        directory: String,
        rumour: Rumour,
    ) -> Self {
        let next_at = 1_500 + dice.within(PAUSE_MILLIS.0, PAUSE_MILLIS.1);
        let patients = (0..machines).map(|_| Patient::default()).collect();
        let estate = Estate::new(machines, members, board);
        Self {
            dice,
            next_at,
            heal_at: None,
            moves_to_leader: false,
            fair_at: None,
            patients,
            estate,
            trace,
            rumour,
            directory,
            count: 0,
            jumps: Vec::new(),
            shortages: Vec::new(),
            refusals: 0,
        }
    }

    fn note(&self, now: u64, what: std::fmt::Arguments<'_>) {
        self.trace.note(now * 1_000, format_args!("FAULT {}", what.to_string().replace(&self.directory, "")));
    }

    /// Lets faults happen and end.
    ///
    /// # Errors
    /// If the host running this fails, or a promise about damage is broken.
    pub fn advance(&mut self, now: u64, machines: &mut [Machine], network: &Network, quiet: bool) -> io::Result<()> {
        if self.heal_at.is_some_and(|at| at <= now) {
            self.heal_at = None;
            network.heal();
            self.note(now, format_args!("the network is whole"));
            if std::mem::take(&mut self.moves_to_leader) && !quiet {
                self.cut_leader_off(now, machines, network);
            }
        }
        if self.fair_at.is_some_and(|at| at <= now) {
            self.fair_at = None;
            network.set_weather(Weather::FAIR);
            self.note(now, format_args!("the network is fair"));
        }
        self.follow_the_list(now, machines);
        for (id, machine) in machines.iter_mut().enumerate() {
            if self.patients[id].heal_disk_at.is_some_and(|at| at <= now) {
                self.patients[id].heal_disk_at = None;
                machine.disk.set_speed(HEALTHY);
            }
            if self.patients[id].space_at.is_some_and(|at| at <= now) {
                self.give_space(now, id, machine);
                self.note(now, format_args!("m{id} has space again"));
            }
            if self.patients[id].start_at.is_some_and(|at| at <= now) {
                self.patients[id].start_at = None;
                if !quiet {
                    self.maybe_flip(now, id, machine)?;
                }
                self.note(now, format_args!("m{id} starts"));
                machine.start()?;
            }
        }
        if !quiet && self.next_at <= now {
            self.next_at = now + self.dice.within(PAUSE_MILLIS.0, PAUSE_MILLIS.1);
            self.count += 1;
            self.strike(now, machines, network)?;
        }
        Ok(())
    }

    /// Ends every fault.
    pub fn heal_all(&mut self, now: u64, machines: &mut [Machine], network: &Network) {
        self.note(now, format_args!("all faults end"));
        (self.heal_at, self.fair_at, self.moves_to_leader) = (None, None, false);
        // A stopped process that wakes early finds the clock further than it should be.
        self.jumps.push(now);
        network.heal();
        network.set_weather(Weather::FAIR);
        for (id, machine) in machines.iter_mut().enumerate() {
            machine.disk.set_speed(HEALTHY);
            self.give_space(now, id, machine);
            machine.drift_per_million = 0;
            machine.paused_until_millis = machine.paused_until_millis.min(now);
            if machine.is_down() && !self.is_spare(id) {
                self.patients[id].start_at = Some(now + 1);
            }
        }
    }

    fn strike(&mut self, now: u64, machines: &mut [Machine], network: &Network) -> io::Result<()> {
        let members = machines.len();
        match self.dice.within(0, 100) {
            0..20 => {
                let id = self.dice.below(members);
                self.crash(now, id, &mut machines[id])?;
            }
            20..26 => {
                // Several at once, perhaps all.
                let count = 1 + self.dice.below(members);
                let mut ids: Vec<usize> = (0..members).collect();
                self.dice.shuffle(&mut ids);
                for id in ids.into_iter().take(count) {
                    self.crash(now, id, &mut machines[id])?;
                }
            }
            26..50 => self.partition(now, machines, network),
            50..60 => self.pause(now, machines),
            60..66 => {
                let (id, millis) = (self.dice.below(members), self.dice.within(20, 4_000));
                machines[id].jump(millis);
                self.jumps.push(now);
                self.note(now, format_args!("m{id}'s clock jumps {millis} ms"));
            }
            66..70 => {
                let id = self.dice.below(members);
                machines[id].drift_per_million = self.dice.within(0, 100_000) as i64 - 50_000;
                self.note(now, format_args!("m{id}'s clock runs {} ppm off", machines[id].drift_per_million));
            }
            70..82 => self.storm(now, network),
            82..90 => {
                let (id, for_millis) = (self.dice.below(members), self.dice.within(200, 3_000));
                let slow = self.dice.within(10_000, 900_000);
                machines[id].disk.set_speed(DiskSpeed { sync_micros_min: slow / 2, sync_micros_max: slow });
                self.patients[id].heal_disk_at = Some(now + for_millis);
                self.note(now, format_args!("m{id}'s disk takes up to {slow} us a sync for {for_millis} ms"));
            }
            90..92 => {
                let id = self.dice.below(members);
                if machines[id].member().is_some() {
                    machines[id].disk.fail_syncs();
                    self.patients[id].may_stop = true;
                    self.note(now, format_args!("m{id}'s disk fails its syncs"));
                }
            }
            92..97 => self.fill(now, machines),
            _ => self.move_leader(now, machines),
        }
        Ok(())
    }

    /// A member dies and comes back later.
    ///
    /// # Errors
    /// If the host running this fails.
    pub fn crash(&mut self, now: u64, id: usize, machine: &mut Machine) -> io::Result<()> {
        if machine.is_down() {
            return Ok(());
        }
        let ending = if self.dice.percent(70) { Ending::PowerLoss } else { Ending::Killed };
        let silently = self.dice.percent(40);
        let damage = machine.crash(ending, silently)?;
        self.give_space(now, id, machine);
        let away = if self.dice.percent(20) { self.dice.within(3_000, 9_000) } else { self.dice.within(20, 2_000) };
        let patient = &mut self.patients[id];
        patient.start_at = Some(now + away);
        patient.garbage = damage.garbage;
        patient.clean = !damage.torn && !damage.garbage;
        patient.may_stop = false;
        self.note(now, format_args!("m{id} dies ({ending:?}, silently: {silently}, {damage:?}) for {away} ms"));
        Ok(())
    }

    fn partition(&mut self, now: u64, machines: &[Machine], network: &Network) {
        if self.dice.percent(LEFT_BEHIND_PERCENT) {
            self.leave_behind(now, machines, network);
            return;
        }
        let members = machines.len();
        let millis = self.dice.within(100, 7_000);
        self.heal_at = Some(now + millis);
        // The clients' host is the last one.
        let hosts = if self.dice.percent(30) { members + 1 } else { members };
        let mut order: Vec<usize> = (0..hosts).collect();
        self.dice.shuffle(&mut order);
        let side = 1 + self.dice.below(hosts - 1);
        let (here, there) = order.split_at(side);
        let kind = self.dice.below(4);
        for from in here {
            for to in there {
                match kind {
                    0 | 1 => {
                        network.set_cut(*from, *to, true);
                        network.set_cut(*to, *from, true);
                    }
                    2 => network.set_cut(*from, *to, true),
                    // Single ways, here and there.
                    _ => network.set_cut(*from, *to, self.dice.percent(50)),
                }
            }
        }
        let kind = ["both ways", "both ways", "one way", "some ways"][kind];
        self.note(now, format_args!("{here:?} and {there:?} are cut {kind} for {millis} ms"));
    }

    /// One that follows is cut off while the others go on.
    fn leave_behind(&mut self, now: u64, machines: &[Machine], network: &Network) {
        let follows = |machine: &Machine| machine.member().is_some_and(|member| !member.leads());
        let followers: Vec<usize> = (0..machines.len()).filter(|id| follows(&machines[*id])).collect();
        if followers.is_empty() {
            return;
        }
        let (id, millis) = (*self.dice.pick(&followers), self.dice.within(500, 3_000));
        isolate(id, machines.len(), network);
        self.heal_at = Some(now + millis);
        self.moves_to_leader = true;
        self.note(now, format_args!("m{id} is left behind for {millis} ms"));
    }

    /// The cut moves: whoever was behind it is with the others again, and who leads is not. Those who are behind then stand
    /// for election against those who are not.
    fn cut_leader_off(&mut self, now: u64, machines: &[Machine], network: &Network) {
        let leads = |machine: &Machine| machine.member().is_some_and(|member| member.leads());
        let Some(leader) = machines.iter().position(leads) else { return };
        let millis = self.dice.within(500, 4_000);
        self.heal_at = Some(now + millis);
        isolate(leader, machines.len(), network);
        self.note(now, format_args!("m{leader}, which leads, is cut off for {millis} ms"));
    }

    fn pause(&mut self, now: u64, machines: &mut [Machine]) {
        let leader = machines.iter().position(|machine| machine.member().is_some_and(|member| member.leads()));
        let id = match leader {
            Some(leader) if self.dice.percent(60) => leader,
            _ => self.dice.below(machines.len()),
        };
        let (millis, clock_goes_on) = (self.dice.within(50, 6_000), self.dice.percent(70));
        machines[id].pause(now, millis, clock_goes_on);
        self.jumps.push(now + millis);
        self.note(now, format_args!("m{id} is stopped for {millis} ms, its clock goes on: {clock_goes_on}"));
    }

    /// A disk runs full: the log's, the keyspace's, or one that both are on; of the leader rather than of another.
    fn fill(&mut self, now: u64, machines: &mut [Machine]) {
        let leader = machines.iter().position(|machine| machine.member().is_some_and(|member| member.leads()));
        let id = match leader {
            Some(leader) if self.dice.percent(50) => leader,
            _ => self.dice.below(machines.len()),
        };
        let (kind, millis) = (self.dice.below(3), self.dice.within(200, 6_000));
        if machines[id].member().is_none() {
            return;
        }
        if kind != 0 {
            machines[id].disk.set_full(true);
        }
        let is_short = self.shortages.iter().any(|shortage| shortage.machine == id && shortage.ended.is_none());
        if kind != 1 && !is_short {
            machines[id].set_keyspace_full(true);
            self.rumour.say(Some(id));
            self.shortages.push(Shortage { machine: id, began: now, ended: None });
        }
        self.patients[id].space_at = Some(now + millis);
        let what = ["keyspace", "log", "keyspace and log"][kind];
        self.note(now, format_args!("m{id} has no space for its {what} for {millis} ms"));
    }

    fn give_space(&mut self, now: u64, id: usize, machine: &Machine) {
        self.patients[id].space_at = None;
        machine.disk.set_full(false);
        machine.set_keyspace_full(false);
        for shortage in self.shortages.iter_mut().filter(|shortage| shortage.machine == id) {
            if shortage.ended.is_none() {
                shortage.ended = Some(now);
                self.rumour.say(None);
            }
        }
    }

    fn storm(&mut self, now: u64, network: &Network) {
        let weather = Weather {
            latency_micros_min: 200,
            latency_micros_max: self.dice.within(1_000, 150_000),
            lost_per_million: self.dice.within(0, 100_000),
            broken_per_million: self.dice.within(0, 20_000),
            doubled_per_million: self.dice.within(0, 300_000),
        };
        let millis = self.dice.within(300, 5_000);
        network.set_weather(weather);
        self.fair_at = Some(now + millis);
        self.note(now, format_args!("{weather:?} for {millis} ms"));
    }

    fn move_leader(&mut self, now: u64, machines: &mut [Machine]) {
        let ids: Vec<Option<u64>> = machines.iter().map(|machine| machine.member().map(|member| member.id())).collect();
        let target = self.dice.below(machines.len());
        let Some(target_id) = ids[target] else { return };
        for machine in machines.iter() {
            if let (Some(member), Some(runtime)) = (machine.member(), machine.runtime())
                && member.leads()
            {
                let member = member.clone();
                runtime.spawn(async move {
                    if let Err(error) = member.move_leader(target_id).await {
                        tracing::debug!(%error, "leadership was not moved");
                    }
                });
                self.note(now, format_args!("m{} is asked to hand leadership to m{target}", machine.id));
                return;
            }
        }
    }

    /// Sometimes a bit of synced data flips while a member is down.
    fn maybe_flip(&mut self, now: u64, id: usize, machine: &Machine) -> io::Result<()> {
        if !self.patients[id].clean || machine.boots() == 0 || !self.dice.percent(12) {
            return Ok(());
        }
        let flipped = if self.dice.percent(60) {
            let backup = machine.disk.backup();
            let flipped = machine.disk.flip_bit();
            flipped.map(|(name, offset)| Flipped::Log { what: format!("{} offset {offset}", name.display()), backup })
        } else {
            self.flip_keyspace(machine)?
        };
        if let Some(Flipped::Log { what, .. } | Flipped::Keyspace { what, .. }) = &flipped {
            self.note(now, format_args!("a bit of m{id} flips: {what}"));
            self.count += 1;
        }
        self.patients[id].flipped = flipped;
        Ok(())
    }

    fn flip_keyspace(&mut self, machine: &Machine) -> io::Result<Option<Flipped>> {
        let mut files = Vec::new();
        if !machine.keyspace_dir().exists() {
            return Ok(None);
        }
        for entry in fs::read_dir(machine.keyspace_dir())? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            } else {
                for table in fs::read_dir(&path)? {
                    files.push(table?.path());
                }
            }
        }
        files.retain(|path| {
            path.file_name().is_some_and(|name| name == "KEYSPACE") || path.extension().is_some_and(|e| e == "sst")
        });
        files.sort();
        if files.is_empty() {
            return Ok(None);
        }
        let path = self.dice.pick(&files).clone();
        let contents = fs::read(&path)?;
        let mut damaged = contents.clone();
        let (offset, bit) = (self.dice.below(damaged.len().max(1)), self.dice.below(8));
        let Some(byte) = damaged.get_mut(offset) else { return Ok(None) };
        *byte ^= 1 << bit;
        fs::write(&path, damaged)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(Flipped::Keyspace { what: name, path, contents }))
    }

    /// A member has started, refused to start or stopped. Answers with what must not have been, if it must not.
    ///
    /// # Errors
    /// If the host running this fails.
    pub fn happened(
        &mut self,
        now: u64,
        id: usize,
        machine: &mut Machine,
        happened: Happened,
    ) -> io::Result<Option<String>> {
        match happened {
            Happened::Nothing => Ok(None),
            Happened::Started => {
                self.note(now, format_args!("m{id} is up"));
                match self.patients[id].flipped.take() {
                    // RocksDB may have thrown the file away unread: nothing referred to it.
                    Some(Flipped::Keyspace { path, .. }) if !path.exists() => Ok(None),
                    Some(Flipped::Log { what, .. } | Flipped::Keyspace { what, .. }) => {
                        Ok(Some(format!("m{id} started although a bit of {what} had flipped")))
                    }
                    None => Ok(None),
                }
            }
            Happened::Refused(error) => self.refused(now, id, machine, &error.to_string()),
            Happened::Stopped(reason) => {
                self.note(now, format_args!("m{id} stopped: {reason}"));
                let expected = self.ended_as_removed(id, &reason) || self.patients[id].may_stop || self.is_leaving(id);
                self.crash(now, id, machine)?;
                Ok((!expected).then(|| format!("m{id}'s Raft stopped by itself: {reason}")))
            }
        }
    }

    fn refused(&mut self, now: u64, id: usize, machine: &mut Machine, error: &str) -> io::Result<Option<String>> {
        self.note(now, format_args!("m{id} refuses to start"));
        // RocksDB's words for the same damage depend on where exactly it lies.
        self.trace.tell(now * 1_000, format_args!("      m{id}: {}", error.replace(&self.directory, "")));
        let patient = &mut self.patients[id];
        patient.start_at = Some(now + 5);
        let flipped = patient.flipped.take();
        let garbage = std::mem::take(&mut patient.garbage);
        match flipped {
            Some(Flipped::Log { what, backup }) => {
                self.refusals += 1;
                machine.disk.restore(backup);
                if self.refused_as_joiner(now, id, machine, error)? {
                    return Ok(None);
                }
                let name = what.split_whitespace().next().unwrap_or_default();
                let named = error.contains(name) && error.contains("offset");
                Ok((!named).then(|| format!("m{id} refused {what}, but names neither file nor offset: {error}")))
            }
            Some(Flipped::Keyspace { what, path, contents }) => {
                self.refusals += 1;
                fs::write(&path, contents)?;
                if self.refused_as_joiner(now, id, machine, error)? {
                    // It has nothing to look for in its tables.
                    return Ok(None);
                }
                Ok((!error.contains(&what)).then(|| format!("m{id} refused {what}, but does not name it: {error}")))
            }
            None if garbage => {
                self.refusals += 1;
                machine.disk.clean_garbage();
                Ok(None)
            }
            None if self.refused_as_joiner(now, id, machine, error)? => Ok(None),
            None => Ok(Some(format!("m{id} refuses to start on an undamaged disk: {error}"))),
        }
    }
}
