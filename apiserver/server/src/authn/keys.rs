//! Keys of ServiceAccount tokens: ES256 and RS256 with ring.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// DER of a P-256 SubjectPublicKeyInfo up to the point (RFC 5480).
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// DER of the algorithm identifier rsaEncryption (RFC 3279).
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Signature algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A key that verifies.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Key id as upstream computes it: hash of the SubjectPublicKeyInfo.
    pub id: String,
    public: Vec<u8>,
}

impl VerifyingKey {
    fn of_p256(point: &[u8]) -> Self {
        let spki = [&P256_SPKI_PREFIX, point].concat();
        Self { algorithm: Algorithm::Es256, id: key_id(&spki), public: point.to_vec() }
    }

    fn of_rsa(pkcs1: &[u8]) -> Self {
        let mut bits = vec![0u8];
        bits.extend_from_slice(pkcs1);
        let body = [&RSA_ALGORITHM[..], &der(0x03, &bits)].concat();
        Self { algorithm: Algorithm::Rs256, id: key_id(&der(0x30, &body)), public: pkcs1.to_vec() }
    }

    fn of_spki(spki: &[u8]) -> Result<Self, String> {
        if let Some(point) = spki.strip_prefix(&P256_SPKI_PREFIX[..]) {
            return Ok(Self::of_p256(point));
        }
        let unknown = || "neither a P-256 nor an RSA key".to_owned();
        let (body, _) = der_read(spki, 0x30).ok_or_else(unknown)?;
        let (_, rest) = der_read(body, 0x30).ok_or_else(unknown)?;
        if !body.starts_with(&RSA_ALGORITHM) {
            return Err(unknown());
        }
        let (bits, _) = der_read(rest, 0x03).ok_or_else(unknown)?;
        bits.split_first().map(|(_, pkcs1)| Self::of_rsa(pkcs1)).ok_or_else(unknown)
    }

    /// Whether `signature` over `message` is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::Es256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public).verify(message, signature)
            }
            Algorithm::Rs256 => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public).verify(message, signature)
            }
        }
        .is_ok()
    }
}

/// A key that signs.
pub struct SigningKey {
    pair: Pair,
    /// The matching verifying key.
    pub public: VerifyingKey,
}

enum Pair {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Reads a private key (PKCS #8, or PKCS #1 for RSA).
    pub fn read(path: &Path) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_file(path).map_err(|error| error.to_string())?;
        Self::of(&key)
    }

    fn of(key: &PrivateKeyDer<'_>) -> Result<Self, String> {
        let der = key.secret_der();
        let ecdsa = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        if let Ok(pair) = ecdsa {
            let public = VerifyingKey::of_p256(pair.public_key().as_ref());
            return Ok(Self { pair: Pair::Ecdsa(Box::new(pair)), public });
        }
        let pair = RsaKeyPair::from_pkcs8(der)
            .or_else(|_| RsaKeyPair::from_der(der))
            .map_err(|_| "neither a P-256 key in PKCS #8 nor an RSA key".to_owned())?;
        let public = VerifyingKey::of_rsa(pair.public().as_ref());
        Ok(Self { pair: Pair::Rsa(Box::new(pair)), public })
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let failed = |_| "signing failed".to_owned();
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// Reads the verifying keys of a PEM file of public or private keys.
pub fn read_verifying_keys(path: &Path) -> Result<Vec<VerifyingKey>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut keys = Vec::new();
    for spki in SubjectPublicKeyInfoDer::pem_slice_iter(&pem) {
        keys.push(VerifyingKey::of_spki(&spki.map_err(|error| error.to_string())?)?);
    }
    for private in PrivateKeyDer::pem_slice_iter(&pem) {
        keys.push(SigningKey::of(&private.map_err(|error| error.to_string())?)?.public);
    }
    if keys.is_empty() { Err("no key in it".into()) } else { Ok(keys) }
}

fn key_id(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(spki))
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 128 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

fn der_read(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 128 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (bytes.iter().try_fold(0usize, |length, byte| length.checked_mul(256)?.checked_add(usize::from(*byte)))?, rest)
    };
    if found != tag { None } else { rest.split_at_checked(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_message_verifies_with_the_public_key_and_not_when_changed() {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("key");
        let key = SigningKey::of(&PrivateKeyDer::Pkcs8(document.as_ref().to_vec().into())).expect("readable");
        let signature = key.sign(b"message").expect("signed");
        assert!(key.public.verifies(b"message", &signature));
        assert!(!key.public.verifies(b"massage", &signature));
        let spki = [&P256_SPKI_PREFIX[..], &key.public.public].concat();
        assert_eq!(VerifyingKey::of_spki(&spki).expect("readable").id, key.public.id);
    }
}
