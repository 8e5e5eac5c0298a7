//! Certificates that clients show. TLS verifies the chain first; what a certificate of a trusted authority says is read
//! here.

use anyhow::Result;
use xebec_pki::Identity;

use super::{Target, outcome};
use crate::input::Input;

/// Who a certificate names.
pub struct Certificate;

impl Target for Certificate {
    fn seeds(&self) -> Result<Vec<Input>> {
        Ok(vec![Input::one(0, *include_bytes!("../../seeds/certificate.der"))])
    }

    fn run(&mut self, input: &Input) -> u64 {
        let Some(part) = input.parts.first() else { return 0 };
        match Identity::from_der(&part.bytes) {
            Ok(identity) => 1 + u64::from(identity.common_name.is_empty()),
            Err(error) => outcome(&error.to_string()),
        }
    }
}
