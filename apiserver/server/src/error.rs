//! Why an API server cannot start or had to stop.

use std::path::PathBuf;

/// Failure of [`crate::run`]; none of them is worth a retry without a change by the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag's value makes no sense.
    #[error("--{flag}: {reason}")]
    Flag {
        /// Name of the flag.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file named by a flag cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates or keys cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The port cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address tried.
        address: std::net::SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}
