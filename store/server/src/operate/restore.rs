use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;
use xebec_store_core::{Alarm, AlarmKind, ClusterTime, Lease, LeaseId, Revision, Write};
use xebec_store_disk::Loader;
use xebec_store_raft::{Seed, SeedRevisions};
use xebec_store_snapshot::{Contents, Database, SnapshotError, SnapshotFile, check, contents_of, read_versions};

use super::OperateError;
use crate::{auth_records, initial::parse_cluster};

/// `xebec store snapshot restore`; etcdutl's flags.
#[derive(Debug, Clone, Args)]
pub struct RestoreFlags {
    /// The snapshot, of Xebec or of etcd; the database file of a stopped etcd too, with --skip-hash-check.
    pub file: PathBuf,
    #[command(flatten)]
    pub member: NewMemberFlags,
    /// Raises the revision by so much, at least by what was written since the snapshot, so that no revision is given
    /// out twice: whoever watches from a revision of the lost cluster would otherwise miss or misread events (a
    /// kube-apiserver's caches would stay wrong). Needs --mark-compacted.
    #[arg(long, default_value_t = 0, requires = "mark_compacted")]
    pub bump_revision: u64,
    /// Marks everything up to the raised revision as compacted, so that watches from before are cancelled and their
    /// clients read anew. Needs --bump-revision.
    #[arg(long, requires = "bump_revision")]
    pub mark_compacted: bool,
    /// Accepts a file without checksum, or with a wrong one; its pages are checked in any case.
    #[arg(long)]
    pub skip_hash_check: bool,
}

/// The new cluster, and which of its members is made.
#[derive(Debug, Clone, Args)]
pub struct NewMemberFlags {
    /// The member's data directory, missing or empty [default: ${name}.etcd].
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// The member's name.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// The new cluster's members, name=URL, comma-separated: the same at every member, each restored from the same
    /// file [default: this member alone].
    #[arg(long)]
    pub initial_cluster: Option<String>,
    /// This member's peer URLs.
    #[arg(long, value_delimiter = ',', default_value = "http://localhost:2380")]
    pub initial_advertise_peer_urls: Vec<String>,
    /// Distinguishes the new cluster; the snapshot's contents do so too, so that members of the old cluster, or of
    /// another snapshot of it, can never be taken for members of this one. Choose another for each restore of the same
    /// file.
    #[arg(long, default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
}

/// Makes a member from a snapshot.
pub(crate) fn restore(flags: &RestoreFlags) -> Result<(), OperateError> {
    let file = SnapshotFile::verify(&flags.file, flags.skip_hash_check)?;
    let database = Database::open(&flags.file)?;
    check(&database)?;
    let bump = i64::try_from(flags.bump_revision)
        .map_err(|_| OperateError::Plain("--bump-revision is too large".to_owned()))?;
    let contents = contents_of(&database)?;
    let seed = flags.member.seed(&file.sha256)?;
    let mut summary = (Revision(0), 0u64);
    let identity = seed.plant(|loader| -> Result<SeedRevisions, OperateError> {
        summary.1 = load_versions(&database, loader)?;
        load_contents(&contents, &flags.file, loader)?;
        let latest = loader.revision().max(contents.compacted);
        summary.0 = Revision(latest.0.saturating_add(bump));
        let compacted = if flags.mark_compacted { summary.0 } else { contents.compacted };
        Ok(SeedRevisions { revision: summary.0, compacted, cleaned: contents.cleaned })
    })?;
    println!(
        "Restored {} versions up to revision {} into {}: member {:x} of cluster {:x}",
        summary.1,
        summary.0,
        seed.data_dir.display(),
        identity.member,
        identity.cluster
    );
    Ok(())
}

impl NewMemberFlags {
    /// The member to be; `origin` names what it is made from.
    pub(super) fn seed(&self, origin: &[u8]) -> Result<Seed, OperateError> {
        let initial_cluster = match &self.initial_cluster {
            Some(text) => parse_cluster(text)?,
            None => BTreeMap::from([(self.name.clone(), self.initial_advertise_peer_urls.clone())]),
        };
        let mut own = initial_cluster.get(&self.name).cloned().unwrap_or_default();
        let mut advertised = self.initial_advertise_peer_urls.clone();
        own.sort();
        advertised.sort();
        if own != advertised {
            return Err(OperateError::Plain(format!(
                "--initial-cluster has {:?} for {}, but --initial-advertise-peer-urls is {}",
                own.join(","),
                self.name,
                advertised.join(",")
            )));
        }
        let data_dir = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.etcd", self.name)));
        let mut token = self.initial_cluster_token.clone();
        for byte in origin {
            write!(token, "{byte:02x}").expect("a String takes any text");
        }
        Ok(Seed { data_dir, name: self.name.clone(), initial_cluster, token })
    }
}

fn load_versions(database: &Database, loader: &mut Loader) -> Result<u64, OperateError> {
    let mut count = 0;
    read_versions(database, &mut |record| {
        count += 1;
        let key = &record.key;
        match &record.kv {
            // What etcdutl leaves to hold a bumped revision; the compacted revision says the same.
            None => Ok(()),
            Some(kv) if key.is_tombstone => loader.delete(key.revision, key.sub, &kv.key),
            Some(kv) => loader.put(key.sub, kv.clone()),
        }
        .map_err(SnapshotError::source)
    })?;
    Ok(count)
}

pub(super) fn load_contents(contents: &Contents, path: &Path, loader: &mut Loader) -> Result<(), OperateError> {
    for lease in &contents.leases {
        let left = if lease.remaining_seconds > 0 { lease.remaining_seconds } else { lease.ttl_seconds };
        let left_millis = u64::try_from(left).unwrap_or(0).saturating_mul(1000);
        loader.add(Write::LeaseSet(Lease {
            id: LeaseId(lease.id),
            ttl_seconds: lease.ttl_seconds,
            deadline: ClusterTime(0).plus_millis(left_millis),
        }))?;
    }
    for alarm in &contents.alarms {
        match alarm.alarm {
            2 => loader.add(Write::AlarmSet(Alarm { member: alarm.member, kind: AlarmKind::Corrupt }))?,
            // The member that had no space is not one of the new cluster's.
            _ => println!("Left out: a NOSPACE alarm of member {:x}", alarm.member),
        }
    }
    let changes = auth_records::changes(&contents.auth)
        .ok_or_else(|| OperateError::Plain(format!("{}: a user or role is malformed", path.display())))?;
    for change in changes {
        loader.add(Write::Auth(change))?;
    }
    Ok(())
}
