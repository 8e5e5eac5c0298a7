//! What a person sees while the cluster comes up: one line a step, with the time it took.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// Numbered steps on standard error; a spinner where there is a terminal, plain lines where there is none.
pub struct Progress {
    total: usize,
    done: usize,
    terminal: bool,
}

impl Progress {
    /// Progress over `total` steps.
    pub fn new(total: usize) -> Self {
        Self { total, done: 0, terminal: std::io::IsTerminal::is_terminal(&std::io::stderr()) }
    }

    /// Runs one step and says how long it took.
    ///
    /// # Errors
    /// Whatever the step fails with.
    pub fn step<T>(&mut self, title: &str, work: impl FnOnce(&Step) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.done += 1;
        let label = format!("[{}/{}] {title}", self.done, self.total);
        let started = Instant::now();
        let step = Step { label: label.clone(), spinner: self.terminal.then(|| spinner(&label)) };
        let result = work(&step);
        if let Some(spinner) = &step.spinner {
            spinner.finish_and_clear();
        }
        let outcome = if result.is_ok() { "" } else { " failed" };
        eprintln!("{label}{outcome} ({:.1} s)", started.elapsed().as_secs_f64());
        result
    }
}

/// The step that is running.
pub struct Step {
    label: String,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Tells what the step is waiting for just now.
    pub fn note(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{}: {text}", self.label));
        }
    }
}

fn spinner(label: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(label.to_owned());
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}
