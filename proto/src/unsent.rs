//! What a failed call of any of these contracts tells about its fate.

use tonic::Status;

/// Whether the request of a failed call surely never left, because there was not even a connection. Everything else may
/// have been done.
pub fn was_not_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_connection_is_known_to_have_sent_nothing() {
        let refused = tonic::ConnectError("connection refused".into());
        assert!(was_not_sent(&Status::from_error(Box::new(refused))));
        assert!(!was_not_sent(&Status::from_error(Box::new(std::io::Error::other("broken pipe")))));
        assert!(!was_not_sent(&Status::unavailable("connection refused")));
    }
}
