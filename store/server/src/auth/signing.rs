//! The signatures of JSON web tokens (RFC 7518, RFC 8037), with ring. ES512 needs a curve that ring does not have.

use std::fmt;

use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair},
    signature::{UnparsedPublicKey, VerificationAlgorithm},
};
use rustls::pki_types::pem::{PemObject, SectionKind};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// How tokens are signed.
enum Method {
    Hmac(hmac::Algorithm),
    Rsa { encoding: &'static dyn RsaEncoding, verify: &'static dyn VerificationAlgorithm },
    Ecdsa { algorithm: &'static EcdsaSigningAlgorithm, verify: &'static dyn VerificationAlgorithm, secret_bytes: usize },
    Ed25519,
}

impl Method {
    fn named(name: &str) -> Option<Self> {
        let rsa = |encoding, verify| Some(Self::Rsa { encoding, verify });
        match name {
            "HS256" => Some(Self::Hmac(hmac::HMAC_SHA256)),
            "HS384" => Some(Self::Hmac(hmac::HMAC_SHA384)),
            "HS512" => Some(Self::Hmac(hmac::HMAC_SHA512)),
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
            "ES256" => Some(Self::Ecdsa {
                algorithm: &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                verify: &signature::ECDSA_P256_SHA256_FIXED,
                secret_bytes: 32,
            }),
            "ES384" => Some(Self::Ecdsa {
                algorithm: &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                verify: &signature::ECDSA_P384_SHA384_FIXED,
                secret_bytes: 48,
            }),
            "EdDSA" => Some(Self::Ed25519),
            _ => None,
        }
    }
}

enum Pair {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Pair {
    fn public(&self) -> &[u8] {
        match self {
            Self::Rsa(pair, _) => pair.public_key().as_ref(),
            Self::Ecdsa(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }
}

enum Keys {
    Secret(hmac::Key),
    Pair { pair: Option<Pair>, public: Vec<u8>, verify: &'static dyn VerificationAlgorithm },
}

/// Signs and verifies by one method, or only verifies.
pub(super) struct Signer {
    /// The method's name, as a token's header has it.
    pub name: String,
    keys: Keys,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Signer {
    /// From the contents of key files: PEM, for HMAC any bytes.
    pub fn new(name: &str, public: Option<&[u8]>, private: Option<&[u8]>) -> Result<Self, String> {
        let method = Method::named(name).ok_or_else(|| format!("{name} is not a signing method that is known here"))?;
        if let Method::Hmac(algorithm) = method {
            let secret = private.filter(|secret| !secret.is_empty()).ok_or("a priv-key is missing")?;
            let keys = Keys::Secret(hmac::Key::new(algorithm, secret));
            return Ok(Self { name: name.to_owned(), keys });
        }
        let pair = private.map(|pem| read_pair(&method, pem)).transpose()?;
        let given = public.map(read_public).transpose()?;
        let public = match (&pair, given) {
            (None, None) => return Err("a pub-key or a priv-key is missing".to_owned()),
            (Some(pair), Some(given)) if pair.public() != given => {
                return Err("public and private keys don't match".to_owned());
            }
            (Some(pair), _) => pair.public().to_vec(),
            (None, Some(given)) => given,
        };
        let verify = match method {
            Method::Rsa { verify, .. } | Method::Ecdsa { verify, .. } => verify,
            Method::Ed25519 | Method::Hmac(_) => &signature::ED25519,
        };
        Ok(Self { name: name.to_owned(), keys: Keys::Pair { pair, public, verify } })
    }

    /// Signs a message; `None` without a private key.
    pub fn sign(&self, message: &[u8]) -> Option<Result<Vec<u8>, String>> {
        let failed = |_| "signing failed".to_owned();
        let pair = match &self.keys {
            Keys::Secret(key) => return Some(Ok(hmac::sign(key, message).as_ref().to_vec())),
            Keys::Pair { pair, .. } => pair.as_ref()?,
        };
        Some(match pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), message).map(|signed| signed.as_ref().to_vec()).map_err(failed)
            }
            Pair::Rsa(pair, encoding) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signed).map(|()| signed).map_err(failed)
            }
        })
    }

    /// Whether `signed` is this key's signature of the message.
    pub fn verifies(&self, message: &[u8], signed: &[u8]) -> bool {
        match &self.keys {
            Keys::Secret(key) => hmac::verify(key, message, signed).is_ok(),
            Keys::Pair { public, verify, .. } => {
                UnparsedPublicKey::new(*verify, public).verify(message, signed).is_ok()
            }
        }
    }
}

fn section(text: &[u8]) -> Result<(SectionKind, Vec<u8>), String> {
    <(SectionKind, Vec<u8>)>::from_pem_slice(text).map_err(|error| format!("no key in it: {error}"))
}

fn read_pair(method: &Method, text: &[u8]) -> Result<Pair, String> {
    let (kind, der) = section(text)?;
    let rejected = |error: ring::error::KeyRejected| format!("the private key cannot be used: {error}");
    match method {
        Method::Rsa { encoding, .. } => {
            let pair = match kind {
                SectionKind::RsaPrivateKey => RsaKeyPair::from_der(&der),
                _ => RsaKeyPair::from_pkcs8(&der),
            };
            Ok(Pair::Rsa(Box::new(pair.map_err(rejected)?), *encoding))
        }
        Method::Ecdsa { algorithm, secret_bytes, .. } => {
            let random = SystemRandom::new();
            let pair = match kind {
                SectionKind::EcPrivateKey => {
                    let (secret, public) = sec1(&der, *secret_bytes).ok_or("not a key of the method's curve")?;
                    EcdsaKeyPair::from_private_key_and_public_key(algorithm, secret, public, &random)
                }
                _ => EcdsaKeyPair::from_pkcs8(algorithm, &der, &random),
            };
            Ok(Pair::Ecdsa(Box::new(pair.map_err(rejected)?)))
        }
        Method::Ed25519 | Method::Hmac(_) => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(rejected)?;
            Ok(Pair::Ed25519(Box::new(pair)))
        }
    }
}

/// The public key inside a SubjectPublicKeyInfo or a certificate, as ring wants it.
fn read_public(text: &[u8]) -> Result<Vec<u8>, String> {
    let (kind, der) = section(text)?;
    let malformed = |error: x509_parser::nom::Err<_>| format!("the public key cannot be read: {error}");
    match kind {
        SectionKind::Certificate => {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(malformed)?;
            Ok(certificate.public_key().subject_public_key.data.to_vec())
        }
        SectionKind::PublicKey => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(malformed)?;
            Ok(info.subject_public_key.data.to_vec())
        }
        other => Err(format!("{other:?} is no public key")),
    }
}

/// Secret and public key of an ECPrivateKey (RFC 5915).
fn sec1(der: &[u8], secret_bytes: usize) -> Option<(&[u8], &[u8])> {
    let (mut body, _) = read(der, 0x30)?;
    let (_version, rest) = read(body, 0x02)?;
    let (secret, rest) = read(rest, 0x04)?;
    body = rest;
    if let Some((_parameters, rest)) = read(body, 0xa0) {
        body = rest;
    }
    let (tagged, _) = read(body, 0xa1)?;
    let (bits, _) = read(tagged, 0x03)?;
    let (_unused_bits, public) = bits.split_first()?;
    (secret.len() == secret_bytes).then_some((secret, public))
}

/// The contents of a DER element of that tag, and what follows it.
fn read(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        // Nothing in an EC key is longer.
        _ => return None,
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl genpkey` for these tests.
    const ED25519_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIIWI5SyupKK83lYjPn27Lwwb8z6sabQgeB7fORJrlhRC
-----END PRIVATE KEY-----
";
    const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEADvDKD3lS68DqWa30PAPO32LR/i5vTFkpjxiCH74JMqs=
-----END PUBLIC KEY-----
";

    fn round_trip(signer: &Signer) {
        let signed = signer.sign(b"message").unwrap().unwrap();
        assert!(signer.verifies(b"message", &signed), "{signer:?}");
        assert!(!signer.verifies(b"massage", &signed), "{signer:?}");
    }

    #[test]
    fn what_is_signed_verifies_and_nothing_else() {
        round_trip(&Signer::new("HS256", None, Some(b"secret")).unwrap());
        round_trip(&Signer::new("HS512", None, Some(b"secret")).unwrap());
        round_trip(&Signer::new("EdDSA", None, Some(ED25519_PRIVATE.as_bytes())).unwrap());
    }

    /// Made with openssl for these tests: as `genrsa`, `pkcs8`, `req -x509`, `ecparam -genkey` and `genpkey` write keys.
    macro_rules! testdata {
        ($name:literal) => {
            include_bytes!(concat!("testdata/", $name, ".pem")).as_slice()
        };
    }

    #[test]
    fn keys_are_read_in_every_form_that_openssl_writes() {
        let table = [
            ("RS256", None, testdata!("rsa-pkcs1")),
            ("RS512", Some(testdata!("rsa-public")), testdata!("rsa-pkcs8")),
            ("PS256", Some(testdata!("rsa-certificate")), testdata!("rsa-pkcs1")),
            ("ES256", Some(testdata!("ec-p256-public")), testdata!("ec-p256-sec1")),
            ("ES384", None, testdata!("ec-p384-pkcs8")),
        ];
        for (method, public, private) in table {
            let signer = Signer::new(method, public, Some(private)).unwrap();
            round_trip(&signer);
            if let Some(public) = public {
                let signed = signer.sign(b"message").unwrap().unwrap();
                assert!(Signer::new(method, Some(public), None).unwrap().verifies(b"message", &signed), "{method}");
            }
        }
    }

    #[test]
    fn keys_that_do_not_belong_together_or_to_the_method_are_refused() {
        let table = [
            ("EdDSA", Some(ED25519_PUBLIC.as_bytes()), testdata!("rsa-pkcs8")),
            ("RS256", Some(testdata!("ec-p256-public")), testdata!("rsa-pkcs1")),
            ("ES384", None, testdata!("ec-p256-sec1")),
            ("ES256", None, testdata!("ec-p384-pkcs8")),
        ];
        for (method, public, private) in table {
            assert!(Signer::new(method, public, Some(private)).is_err(), "{method}");
        }
    }

    #[test]
    fn a_signer_without_private_key_verifies_only() {
        let both = Signer::new("EdDSA", Some(ED25519_PUBLIC.as_bytes()), Some(ED25519_PRIVATE.as_bytes())).unwrap();
        let verifier = Signer::new("EdDSA", Some(ED25519_PUBLIC.as_bytes()), None).unwrap();
        let signed = both.sign(b"message").unwrap().unwrap();
        assert!(verifier.verifies(b"message", &signed));
        assert!(verifier.sign(b"message").is_none());
    }

    #[test]
    fn unknown_methods_and_missing_keys_are_refused() {
        for (method, private) in
            [("none", None), ("ES512", None), ("HS256", None), ("EdDSA", None), ("RS256", Some(ED25519_PRIVATE))]
        {
            assert!(Signer::new(method, None, private.map(str::as_bytes)).is_err(), "{method}");
        }
    }
}
