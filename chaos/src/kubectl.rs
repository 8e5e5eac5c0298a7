//! The stock `kubectl`, as the cluster's first user.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::shell;

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// kubectl that speaks to the cluster in `kubeconfig`.
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned() }
    }

    /// Runs kubectl and gives what it printed.
    ///
    /// # Errors
    /// kubectl fails; the error holds its message.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let kubeconfig = self.flag();
        let mut all = vec![kubeconfig.as_str()];
        all.extend(args);
        shell::run("kubectl", &all)
    }

    /// Runs kubectl with a text on its standard input.
    ///
    /// # Errors
    /// kubectl fails; the error holds its message.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let kubeconfig = self.flag();
        let mut all = vec![kubeconfig.as_str()];
        all.extend(args);
        shell::run_with_input("kubectl", &all, input)
    }

    /// `kubectl get ... -o json`, parsed.
    ///
    /// # Errors
    /// kubectl fails or prints something else.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        let text = self.run(&all)?;
        serde_json::from_str(&text).with_context(|| format!("kubectl printed no JSON: {text}"))
    }

    /// A kubectl that goes on running, its output to be read.
    ///
    /// # Errors
    /// kubectl cannot be started.
    pub fn spawn(&self, args: &[&str]) -> Result<std::process::Child> {
        Command::new("kubectl")
            .arg(self.flag())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")
    }

    fn flag(&self) -> String {
        format!("--kubeconfig={}", self.kubeconfig.display())
    }
}
