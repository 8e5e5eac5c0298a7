//! Certificate authorities, and the requests and certificates that pass through them.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::Error;

/// Certificates count as valid this long before they were made, so that hosts whose clocks lag accept them.
const CLOCK_SKEW_ALLOWED: Duration = Duration::from_secs(5 * 60);
/// An authority outlives every certificate that it will ever sign.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// TLS server authentication.
    Server,
    /// TLS client authentication.
    Client,
}

/// A certificate to issue for one of our own components.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    /// The subject's common name: the user name to the API server.
    pub common_name: String,
    /// The subject's organization: the group to the API server.
    pub organization: Option<String>,
    /// DNS names the certificate is valid for.
    pub dns_names: Vec<String>,
    /// Addresses the certificate is valid for.
    pub addresses: Vec<IpAddr>,
    /// What it may be used for.
    pub usages: Vec<Usage>,
    /// How long it is valid.
    pub validity: Duration,
}

/// A certificate with its private key, both PEM.
pub struct Issued {
    /// The certificate, followed by its authority's, so that a peer that only knows the authority's hash can check it.
    pub certificate_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: String,
}

impl Issued {
    /// Writes `<stem>.crt` and `<stem>.key` into `dir`, each replaced atomically, the key readable by its owner only.
    ///
    /// # Errors
    /// [`Error::File`] names the file that could not be written.
    pub fn write(&self, dir: &Path, stem: &str) -> Result<(), Error> {
        write_private(&dir.join(format!("{stem}.key")), &self.key_pem)?;
        write_file(&dir.join(format!("{stem}.crt")), &self.certificate_pem, 0o644)
    }
}

/// How to sign a request that arrived from outside.
#[derive(Clone, Debug)]
pub struct SignOptions {
    /// The usages granted, whatever the request asks for.
    pub usages: Vec<Usage>,
    /// How long the certificate is valid.
    pub validity: Duration,
}

/// A certificate authority: it signs.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a self-signed authority.
    ///
    /// # Errors
    /// [`Error::Issue`] if the random source or the certificate library fails.
    pub fn create(common_name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_VALIDITY);
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// Reads an authority from its certificate and key.
    ///
    /// # Errors
    /// The file that is missing or does not hold what it should.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let certificate_pem = fs::read_to_string(certificate).map_err(|e| Error::file(certificate, e))?;
        let key_pem = fs::read_to_string(key).map_err(|e| Error::file(key, e))?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|e| Error::malformed(key, e))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, pair).map_err(|e| Error::malformed(certificate, e))?;
        Ok(Self { certificate_pem, issuer })
    }

    /// Writes `ca.crt` and `ca.key` into `dir`.
    ///
    /// # Errors
    /// [`Error::File`] names the file that could not be written.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        write_private(&dir.join("ca.key"), &self.issuer.key().serialize_pem())?;
        write_file(&dir.join("ca.crt"), &self.certificate_pem, 0o644)
    }

    /// The authority's own certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate on a fresh key.
    ///
    /// # Errors
    /// [`Error::Issue`] if a name is not valid in a certificate.
    pub fn issue(&self, request: &CertificateRequest) -> Result<Issued, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&request.common_name, request.organization.as_deref());
        params.subject_alt_names = alternative_names(&request.dns_names, &request.addresses)?;
        grant(&mut params, &request.usages);
        set_validity(&mut params, request.validity);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: format!("{}{}", certificate.pem(), self.certificate_pem),
            key_pem: key.serialize_pem(),
        })
    }

    /// Signs a PEM certificate request: its subject and alternative names are kept, its usages and validity are ours.
    /// Whether the subject may have such a certificate is the caller's decision.
    ///
    /// # Errors
    /// [`Error::Parse`] for a request that does not parse or whose own signature is wrong.
    pub fn sign_csr(&self, request_pem: &str, options: &SignOptions) -> Result<String, Error> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request_pem).map_err(|e| Error::Parse(e.to_string()))?;
        request.params.is_ca = IsCa::ExplicitNoCa;
        grant(&mut request.params, &options.usages);
        set_validity(&mut request.params, options.validity);
        Ok(format!("{}{}", request.signed_by(&self.issuer)?.pem(), self.certificate_pem))
    }
}

/// A fresh private key and the request to certify it.
pub struct KeyAndRequest {
    /// The private key (PKCS #8, PEM).
    pub key_pem: String,
    /// The certificate request (PKCS #10, PEM).
    pub request_pem: String,
}

impl KeyAndRequest {
    /// Generates a key and a request for `common_name` in `organization`, valid for the names and addresses given.
    ///
    /// # Errors
    /// [`Error::Issue`] if a name is not valid in a certificate.
    pub fn generate(
        common_name: &str,
        organization: Option<&str>,
        dns_names: &[String],
        addresses: &[IpAddr],
    ) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, organization);
        params.subject_alt_names = alternative_names(dns_names, addresses)?;
        let request_pem = params.serialize_request(&key)?.pem()?;
        Ok(Self { key_pem: key.serialize_pem(), request_pem })
    }
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn alternative_names(dns_names: &[String], addresses: &[IpAddr]) -> Result<Vec<SanType>, Error> {
    let mut names = Vec::with_capacity(dns_names.len() + addresses.len());
    for name in dns_names {
        names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    names.extend(addresses.iter().copied().map(SanType::IpAddress));
    Ok(names)
}

fn grant(params: &mut CertificateParams, usages: &[Usage]) {
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = usages
        .iter()
        .map(|usage| match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        })
        .collect();
}

fn set_validity(params: &mut CertificateParams, validity: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW_ALLOWED).into();
    params.not_after = (now + validity).into();
}

/// Writes a private file: mode 0600 from the first byte on, replaced atomically.
pub(crate) fn write_private(path: &Path, contents: &str) -> Result<(), Error> {
    write_file(path, contents, 0o600)
}

pub(crate) fn write_file(path: &Path, contents: &str, mode: u32) -> Result<(), Error> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = Path::new(&staged);
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(staged)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()?;
        fs::rename(staged, path)
    };
    write().map_err(|e| Error::file(path, e))
}
