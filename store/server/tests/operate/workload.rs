//! The same history for any server, and everything that can be read of it.

use bytes::Bytes;
use tonic::{Code, transport::Channel};
use xebec_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op::Request,
};

use crate::processes::{get, put};

/// Seconds of the leases that are granted; long enough for any test.
pub const LEASE_SECONDS: i64 = 100_000;
/// The leases that are granted.
pub const LEASES: [i64; 2] = [0x1234_5678, 7];

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Puts, overwrites, deletions, transactions with sub-revisions, leases, large values.
pub async fn play(channel: &Channel) {
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel.clone());
    for id in LEASES {
        leases.lease_grant(LeaseGrantRequest { ttl: LEASE_SECONDS, id }).await.unwrap();
    }
    for round in 0..3 {
        for number in 0..40 {
            let key = format!("key/{number:03}");
            let lease = if number % 10 == 0 { LEASES[0] } else { 0 };
            let value = format!("value {round} {number}");
            kv.put(PutRequest { lease, ..put(key.as_bytes(), value.as_bytes()) }).await.unwrap();
        }
        kv.delete_range(delete(&format!("key/{:03}", round + 5))).await.unwrap();
        let success = (0..5).map(|number| op(Request::RequestPut(put(format!("txn/{number}").as_bytes(), b"t"))));
        let success = success.chain([op(Request::RequestDeleteRange(delete("key/020")))]).collect();
        kv.txn(TxnRequest { success, ..Default::default() }).await.unwrap();
    }
    // Several pages, and many of them.
    kv.put(put(b"large", &vec![b'x'; 300_000])).await.unwrap();
    kv.put(put(b"binary\0\xff", b"")).await.unwrap();
    for number in 0..300 {
        kv.put(put(format!("many/{number}").as_bytes(), &[b'y'; 200])).await.unwrap();
    }
}

/// Compacts, and waits until it is carried out.
pub async fn compact(channel: &Channel, revision: i64) {
    let mut kv = KvClient::new(channel.clone());
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
}

/// Everything at a revision; `None` if that is not readable.
pub async fn all_at(channel: &Channel, revision: i64) -> Option<RangeResponse> {
    let request = RangeRequest { range_end: Bytes::from_static(b"\0"), revision, ..get(b"\0") };
    match KvClient::new(channel.clone()).range(request).await {
        Ok(response) => Some(RangeResponse { header: None, ..response.into_inner() }),
        Err(status) => {
            assert_eq!(status.code(), Code::OutOfRange, "{status}");
            None
        }
    }
}

/// The server's revision.
pub async fn revision(channel: &Channel) -> i64 {
    let response = KvClient::new(channel.clone()).range(get(b"nothing")).await.unwrap();
    response.into_inner().header.unwrap().revision
}

/// Every lease with its granted seconds and keys; that time is left is asserted.
pub async fn leases(channel: &Channel) -> Vec<(i64, i64, Vec<Bytes>)> {
    let mut client = LeaseClient::new(channel.clone());
    let mut found = Vec::new();
    for lease in client.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases {
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let life = client.lease_time_to_live(request).await.unwrap().into_inner();
        assert!(life.ttl > life.granted_ttl - 1_000, "lease {}: {} s left", lease.id, life.ttl);
        let mut keys = life.keys;
        keys.sort();
        found.push((lease.id, life.granted_ttl, keys));
    }
    found.sort();
    found
}

/// The hash at a revision with the compacted revision it counts from, or the refusal.
pub async fn hash_kv(channel: &Channel, revision: i64) -> Result<(u32, i64), (Code, String)> {
    let answer = MaintenanceClient::new(channel.clone()).hash_kv(HashKvRequest { revision }).await;
    answer
        .map(|response| (response.get_ref().hash, response.get_ref().compact_revision))
        .map_err(|status| (status.code(), status.message().to_owned()))
}

/// Asserts that two servers say the same at every revision up to the present.
pub async fn assert_same_history(left: &Channel, right: &Channel) {
    let last = revision(left).await;
    assert_eq!(revision(right).await, last);
    for revision in 1..=last {
        assert_eq!(all_at(left, revision).await, all_at(right, revision).await, "revision {revision}");
    }
    assert_eq!(leases(left).await, leases(right).await);
}
