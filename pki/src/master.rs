//! The certificates of a cluster's masters, laid out as ARCHITECTURE.md's contract says.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::KeyPair;

use crate::{
    Authority, CertificateRequest, Error, Usage,
    authority::{write_file, write_private},
    identity::spki_sha256,
    tls::read_certificates,
};

/// Component certificates are good for a year, as kubeadm's are; `ClusterAuthorities::write_master` renews them.
const COMPONENT_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// What makes a cluster a cluster: its two authorities and its ServiceAccount signing key.
pub struct ClusterAuthorities {
    dir: PathBuf,
    cluster: Authority,
    etcd: Authority,
}

/// The names by which one master is known.
#[derive(Clone, Debug)]
pub struct MasterNames {
    /// The host name.
    pub host: String,
    /// Addresses of the host, the loopback address included where clients use it.
    pub addresses: Vec<IpAddr>,
    /// Addresses under which the API server is reached besides its own: its balancer's and its Service's.
    pub api_addresses: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
}

impl ClusterAuthorities {
    /// Loads the authorities kept in `dir`, or makes them there the first time.
    ///
    /// # Errors
    /// The file that cannot be read or written, or is not what its name says.
    pub fn load_or_create(dir: &Path) -> Result<Self, Error> {
        let etcd_dir = dir.join("etcd");
        fs::create_dir_all(&etcd_dir).map_err(|e| Error::file(&etcd_dir, e))?;
        let cluster = load_or_create(dir, "kubernetes")?;
        let etcd = load_or_create(&etcd_dir, "etcd-ca")?;
        if !dir.join("sa.pub").exists() {
            let key = KeyPair::generate()?;
            write_private(&dir.join("sa.key"), &key.serialize_pem())?;
            write_file(&dir.join("sa.pub"), &key.public_key_pem(), 0o644)?;
        }
        Ok(Self { dir: dir.to_owned(), cluster, etcd })
    }

    /// The cluster authority's certificate.
    pub fn ca_pem(&self) -> &str {
        self.cluster.certificate_pem()
    }

    /// The pin that a joining node checks: `sha256:` and the hash of the authority's public key in hex.
    ///
    /// # Errors
    /// `ca.crt` cannot be read.
    pub fn ca_hash(&self) -> Result<String, Error> {
        let ca = read_certificates(&self.dir.join("ca.crt"))?;
        let hash = spki_sha256(&ca[0])?;
        Ok(hash.iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}")))
    }

    /// Issues a client certificate of the cluster authority.
    ///
    /// # Errors
    /// [`Error::Issue`] if a name is not valid in a certificate.
    pub fn issue_client(&self, common_name: &str, organization: Option<&str>) -> Result<crate::Issued, Error> {
        self.cluster.issue(&client(common_name, organization))
    }

    /// Writes everything a master needs into its certificate directory; certificates already there are kept.
    ///
    /// # Errors
    /// The file that cannot be read or written.
    pub fn write_master(&self, names: &MasterNames, dir: &Path) -> Result<(), Error> {
        let etcd_dir = dir.join("etcd");
        fs::create_dir_all(&etcd_dir).map_err(|e| Error::file(&etcd_dir, e))?;
        self.cluster.write(dir)?;
        self.etcd.write(&etcd_dir)?;
        for name in ["sa.key", "sa.pub"] {
            let from = self.dir.join(name);
            let text = fs::read_to_string(&from).map_err(|e| Error::file(&from, e))?;
            write_file(&dir.join(name), &text, if name == "sa.key" { 0o600 } else { 0o644 })?;
        }
        self.write_cluster_certificates(names, dir)?;
        self.write_etcd_certificates(names, dir, &etcd_dir)
    }

    fn write_cluster_certificates(&self, names: &MasterNames, dir: &Path) -> Result<(), Error> {
        let domain = &names.cluster_domain;
        let mut dns_names = vec![names.host.clone(), "localhost".into()];
        dns_names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(String::from));
        dns_names.push(format!("kubernetes.default.svc.{domain}"));
        let mut addresses = names.addresses.clone();
        addresses.extend(&names.api_addresses);
        let server = CertificateRequest { dns_names, addresses, ..server("kube-apiserver", vec![Usage::Server]) };
        let masters = Some("system:masters");
        issue_once(&self.cluster, dir, "apiserver", &server)?;
        issue_once(&self.cluster, dir, "apiserver-kubelet-client", &client("kube-apiserver-kubelet-client", masters))?;
        issue_once(&self.cluster, dir, "scheduler", &client("system:kube-scheduler", None))?;
        issue_once(&self.cluster, dir, "controller-manager", &client("system:kube-controller-manager", None))?;
        issue_once(&self.cluster, dir, "admin", &client("kubernetes-admin", masters))
    }

    fn write_etcd_certificates(&self, names: &MasterNames, dir: &Path, etcd_dir: &Path) -> Result<(), Error> {
        let both = vec![Usage::Server, Usage::Client];
        let host = CertificateRequest {
            dns_names: vec![names.host.clone(), "localhost".into()],
            addresses: names.addresses.clone(),
            ..server(&names.host, both)
        };
        issue_once(&self.etcd, etcd_dir, "server", &host)?;
        issue_once(&self.etcd, etcd_dir, "peer", &host)?;
        issue_once(&self.etcd, dir, "apiserver-etcd-client", &client("kube-apiserver-etcd-client", None))
    }
}

fn load_or_create(dir: &Path, common_name: &str) -> Result<Authority, Error> {
    let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    if certificate.exists() {
        return Authority::load(&certificate, &key);
    }
    let authority = Authority::create(common_name)?;
    authority.write(dir)?;
    Ok(authority)
}

fn issue_once(authority: &Authority, dir: &Path, stem: &str, request: &CertificateRequest) -> Result<(), Error> {
    if dir.join(format!("{stem}.crt")).exists() {
        return Ok(());
    }
    authority.issue(request)?.write(dir, stem)
}

fn client(common_name: &str, organization: Option<&str>) -> CertificateRequest {
    CertificateRequest { organization: organization.map(str::to_owned), ..server(common_name, vec![Usage::Client]) }
}

fn server(common_name: &str, usages: Vec<Usage>) -> CertificateRequest {
    CertificateRequest {
        common_name: common_name.to_owned(),
        organization: None,
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usages,
        validity: COMPONENT_VALIDITY,
    }
}
