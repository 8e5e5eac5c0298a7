//! Values that members send each other and keep in their logs.

use anyhow::{Result, anyhow};
use bytes::Bytes;
use xebec_store_core::{
    ClusterTime, Command, Compare, CompareOperator, CompareTarget, DeleteRange, KeyRange, LeaseGrant, LeaseId,
    LeaseRevoke, Op, Put, Range, Revision, Txn,
    auth::{AuthCommand, Caller},
};
use xebec_store_raft::fuzzing::{WIRE_KINDS, wire_seeds};

use super::{Target, outcome};
use crate::input::Input;

/// The decoders of the peer service and of the log.
pub struct Peer;

/// Commands of many kinds.
pub(super) fn commands() -> Vec<Command> {
    let put = Put { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"value"), ..Put::default() };
    let range = KeyRange::from_wire(Bytes::from_static(b"a"), Bytes::from_static(b"z"));
    let txn = Txn {
        compares: vec![Compare {
            range: range.clone(),
            operator: CompareOperator::Equal,
            target: CompareTarget::Version(1),
        }],
        success: vec![Op::Put(put.clone()), Op::Range(Range::new(range.clone()))],
        failure: vec![Op::DeleteRange(DeleteRange { range: range.clone(), prev_kv: true })],
    };
    let nested = Txn { success: vec![Op::Txn(txn.clone())], ..Txn::default() };
    let caller = Caller { user: "root".to_owned(), auth_revision: 3 };
    vec![
        Command::Put(put.clone()),
        Command::DeleteRange(DeleteRange { range, prev_kv: false }),
        Command::Txn(txn),
        Command::Txn(nested),
        Command::Compact { revision: Revision(3) },
        Command::LeaseGrant(LeaseGrant { id: LeaseId(7), ttl_seconds: 60, now: ClusterTime(0) }),
        Command::LeaseRevoke(LeaseRevoke { ids: vec![LeaseId(7), LeaseId(8)] }),
        Command::SetClusterRecord { name: "version".to_owned(), value: Some(Bytes::from_static(b"3.6.0")) },
        Command::Auth(AuthCommand::RoleAdd { name: "root".to_owned() }),
        Command::Put(put).by(caller.clone()),
        Command::Compact { revision: Revision(2) }.by(caller),
        // Is in itself again when bytes are repeated.
        Command::Compact { revision: Revision(2) }.by(Caller { user: String::new(), auth_revision: 1 }),
    ]
}

impl Target for Peer {
    fn seeds(&self) -> Result<Vec<Input>> {
        let seeds = wire_seeds(&commands()).map_err(|error| anyhow!("{error}"))?;
        Ok(seeds.into_iter().map(|(kind, bytes)| Input::one(kind, bytes)).collect())
    }

    fn run(&mut self, input: &Input) -> u64 {
        let Some(part) = input.parts.first() else { return 0 };
        let kind = &WIRE_KINDS[usize::from(part.kind) % WIRE_KINDS.len()];
        match (kind.read)(&part.bytes) {
            None => outcome(kind.name),
            Some(is_same) => {
                assert!(is_same, "{} becomes another value when it is sent on", kind.name);
                outcome(kind.name) + 1
            }
        }
    }
}
