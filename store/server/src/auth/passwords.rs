//! bcrypt, which is slow on purpose: away from the request threads, and only so many at a time.

use tokio::sync::Semaphore;
use tonic::Status;
use xebec_store_core::auth::PasswordHash;

use super::options::BCRYPT_COST_DEFAULT;
use crate::{context::blocking, status};

/// Costs that bcrypt knows (Go's `bcrypt.MinCost`, `bcrypt.MaxCost`).
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// Passwords hashed or checked at a time. More would only take the processors from everybody else.
const AT_ONCE_MAX: usize = 2;

/// Hashes and checks passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    cost: u32,
    slots: Semaphore,
}

impl Passwords {
    /// A cost that bcrypt does not know is replaced, as in etcd (`auth.NewAuthStore`).
    pub fn new(cost: u32) -> Self {
        if !COSTS.contains(&cost) {
            tracing::warn!(cost, default = BCRYPT_COST_DEFAULT, "--bcrypt-cost is out of range; the default is used");
        }
        let cost = if COSTS.contains(&cost) { cost } else { BCRYPT_COST_DEFAULT };
        Self { cost, slots: Semaphore::new(AT_ONCE_MAX) }
    }

    /// Hashes a password.
    pub async fn hash(&self, password: String) -> Result<PasswordHash, Status> {
        let cost = self.cost;
        let _slot = self.slots.acquire().await.map_err(|_| status::stopped())?;
        blocking(move || match bcrypt::non_truncating_hash_with_result(password, cost) {
            // The variant that etcd's own hashes have.
            Ok(parts) => Ok(PasswordHash(parts.format_for_version(bcrypt::Version::TwoA).into())),
            // As etcd, which passes its library's words on.
            Err(bcrypt::BcryptError::Truncation(_)) => Err(Status::unknown("bcrypt: password length exceeds 72 bytes")),
            Err(error) => Err(Status::unknown(error.to_string())),
        })
        .await
    }

    /// Whether a password is the one that was hashed.
    pub async fn verify(&self, password: String, hash: PasswordHash) -> Result<bool, Status> {
        let _slot = self.slots.acquire().await.map_err(|_| status::stopped())?;
        blocking(move || {
            let hash = std::str::from_utf8(&hash.0).unwrap_or_default();
            // Something that is no hash matches no password.
            Ok(bcrypt::verify(password, hash).unwrap_or(false))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_hash_only() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("secret".into()).await.unwrap();
        assert!(hash.0.starts_with(b"$2a$04$"));
        assert!(passwords.verify("secret".into(), hash.clone()).await.unwrap());
        assert!(!passwords.verify("Secret".into(), hash).await.unwrap());
        assert!(!passwords.verify(String::new(), PasswordHash(Default::default())).await.unwrap());
        assert!(passwords.hash("x".repeat(73)).await.is_err());
    }

    #[tokio::test]
    async fn gos_hashes_are_understood() {
        // From the tests of golang.org/x/crypto/bcrypt.
        let hash = PasswordHash("$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga".into());
        assert!(Passwords::new(4).verify("allmine".into(), hash).await.unwrap());
    }

    #[test]
    fn a_cost_out_of_range_is_replaced() {
        assert_eq!((Passwords::new(3).cost, Passwords::new(32).cost, Passwords::new(5).cost), (10, 10, 5));
    }
}
