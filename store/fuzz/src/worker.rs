//! The process that runs inputs, and dies of them if need be.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;

use xebec_store_dice::Dice;

use crate::{
    allocation,
    coverage::{self, Coverage},
    findings,
    input::Input,
    mutate::mutate,
    targets::{Row, Target},
};

/// The exit status that says: this input breaks something, and the reason is written down.
pub const FOUND_STATUS: i32 = 77;
/// Bytes of stack under the target: what a worker thread of tokio has.
const STACK_BYTES: usize = 2 << 20;
/// Inputs that are kept to go on from, and without coverage, which tells less well what is new.
const CORPUS_MAX: usize = 20_000;
const BLIND_CORPUS_MAX: usize = 2_000;
/// Inputs run between two looks at the clock.
const RUNS_PER_LOOK: u64 = 16;

/// What a worker is to do.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Everything follows from it.
    pub seed: u64,
    /// How long it runs.
    pub time: Duration,
    /// How many inputs it runs at most.
    pub runs_max: u64,
    /// How long one input may take.
    pub input_time_max: Duration,
    /// Where inputs that reached something new are kept from run to run.
    pub corpus: Option<PathBuf>,
    /// Where it writes what it is at; see [`State`].
    pub state: PathBuf,
}

/// The files through which a worker tells what it is at: the input itself, the reason it broke, the summary.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
}

/// Where a worker was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Inputs begun.
    pub run: u64,
    /// The last of them.
    pub input: Input,
}

impl State {
    /// By the path of the first of them.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// What the worker is at, or was at when it died.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        let bytes = fs::read(&self.path).ok()?;
        let (run, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let input = Input::decode(rest.get(..u64::from_le_bytes(*length) as usize)?)?;
        Some(Progress { run: u64::from_le_bytes(*run), input })
    }

    /// Why the worker stopped at its input.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        fs::read_to_string(self.path.with_extension("reason")).ok()
    }

    /// What the worker did, if it came to its end.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        fs::read_to_string(self.path.with_extension("summary")).ok()
    }

    fn write_reason(&self, reason: &str) -> Result<()> {
        fs::write(self.path.with_extension("reason"), reason).context("cannot write the reason")
    }
}

/// The first panic of any thread since it was last taken.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn watch_panics() {
    panic::set_hook(Box::new(|info| {
        let said = info.payload_as_str().unwrap_or("something that is no text");
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        PANIC.lock().get_or_insert_with(|| format!("panic at {at}: {said}"));
    }));
}

struct Worker {
    target: Box<dyn Target>,
    state: State,
    file: File,
    runs: u64,
    buffer: Vec<u8>,
}

/// How one input ended.
enum Ended {
    Answered(u64),
    Broke(String),
}

impl Worker {
    fn new(target: Box<dyn Target>, state: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(state);
        let file = file.with_context(|| state.display().to_string())?;
        Ok(Self { target, state: State::at(state), file, runs: 0, buffer: Vec::new() })
    }

    fn run(&mut self, input: &Input) -> Result<Ended> {
        self.runs += 1;
        let encoded = input.encode();
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.runs.to_le_bytes());
        self.buffer.extend_from_slice(&(encoded.len() as u64).to_le_bytes());
        self.buffer.extend_from_slice(&encoded);
        self.file.write_all_at(&self.buffer, 0).context("cannot write the state")?;
        coverage::reset();
        let target = &mut self.target;
        let (answer, bytes) =
            allocation::peak_of(|| panic::catch_unwind(AssertUnwindSafe(|| target.run(input))).unwrap_or(0));
        if let Some(reason) = PANIC.lock().take() {
            return Ok(Ended::Broke(reason));
        }
        let bytes_max = self.target.allocation_bytes_max();
        if bytes > bytes_max {
            return Ok(Ended::Broke(format!("allocation of {} MiB, more than {}", bytes >> 20, bytes_max >> 20)));
        }
        Ok(Ended::Answered(answer))
    }
}

/// Does `work` on a stack like a server's.
fn on_a_small_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("fuzz".to_owned()).stack_size(STACK_BYTES);
        let handle = builder.spawn_scoped(scope, work).context("no thread")?;
        handle.join().unwrap_or_else(|_| anyhow::bail!("the worker itself panicked"))
    })
}

/// Runs inputs until the time is over; true if one broke something.
///
/// # Errors
/// If files cannot be written.
pub fn work(row: &Row, orders: &Orders) -> Result<bool> {
    watch_panics();
    on_a_small_stack(|| {
        let mut worker = Worker::new(row.make()?, &orders.state)?;
        let found = campaign(&mut worker, orders)?;
        if let Some(reason) = &found {
            worker.state.write_reason(reason)?;
        }
        Ok(found.is_some())
    })
}

fn campaign(worker: &mut Worker, orders: &Orders) -> Result<Option<String>> {
    let begun = Instant::now();
    let (mut dice, mut seen, mut answers) =
        (Dice::new(orders.seed), Coverage::default(), std::collections::HashSet::new());
    let words = worker.target.words();
    let mut corpus = worker.target.seeds()?;
    if let Some(dir) = &orders.corpus {
        corpus.extend(findings::read_all(dir)?.into_iter().map(|(_, input)| input));
    }
    for seed in &corpus {
        match worker.run(seed)? {
            Ended::Broke(reason) => return Ok(Some(reason)),
            Ended::Answered(answer) => {
                seen.absorb();
                answers.insert(answer);
            }
        }
    }
    let is_blind = coverage::counters() == 0;
    let corpus_max = if is_blind { corpus.len() + BLIND_CORPUS_MAX } else { CORPUS_MAX };
    while worker.runs < orders.runs_max {
        if worker.runs.is_multiple_of(RUNS_PER_LOOK) && begun.elapsed() >= orders.time {
            break;
        }
        let mut input = dice.pick(&corpus).clone();
        mutate(&mut input, &corpus, words, &mut dice);
        let answer = match worker.run(&input)? {
            Ended::Broke(reason) => return Ok(Some(reason)),
            Ended::Answered(answer) => answer,
        };
        let is_new_answer = answers.insert(answer);
        let is_news = if is_blind { is_new_answer } else { seen.absorb() };
        if is_news && corpus.len() < corpus_max {
            if let Some(dir) = &orders.corpus {
                findings::write(dir, &input, "")?;
            }
            corpus.push(input);
        }
    }
    let summary = format!(
        "{} inputs, {} kept, {} outcomes, {} of {} edges",
        worker.runs,
        corpus.len(),
        answers.len(),
        seen.reached(),
        coverage::counters()
    );
    fs::write(worker.state.path.with_extension("summary"), summary).context("cannot write the summary")?;
    Ok(None)
}

/// Runs one input; true if it broke something.
///
/// # Errors
/// If files cannot be written.
pub fn replay(row: &Row, input: &Input, state: &Path) -> Result<bool> {
    watch_panics();
    on_a_small_stack(|| {
        let mut worker = Worker::new(row.make()?, state)?;
        match worker.run(input)? {
            Ended::Answered(_) => Ok(false),
            Ended::Broke(reason) => worker.state.write_reason(&reason).map(|()| true),
        }
    })
}
