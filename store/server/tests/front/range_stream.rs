//! RangeStream, and the budget for bytes of responses.

use std::time::Duration;

use tonic::{Code, transport::Channel};
use xebec_proto::etcdserverpb::{
    CompactionRequest, RangeRequest, RangeResponse, StatusRequest,
    kv_client::KvClient,
    maintenance_client::MaintenanceClient,
    range_request::{SortOrder, SortTarget},
};

use crate::processes::{Cluster, get, put};

async fn chunks(kv: &mut KvClient<Channel>, request: RangeRequest) -> Result<Vec<RangeResponse>, tonic::Status> {
    let mut stream = kv.range_stream(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await? {
        chunks.push(chunk.range_response.unwrap());
    }
    Ok(chunks)
}

/// What the chunks come to if they are merged, as etcd promises: the answer of Range.
fn merged(chunks: Vec<RangeResponse>) -> RangeResponse {
    let mut all = RangeResponse::default();
    for chunk in chunks {
        all.kvs.extend(chunk.kvs);
        all.header = chunk.header.or(all.header);
        all.more |= chunk.more;
        all.count += chunk.count;
    }
    all
}

fn all() -> RangeRequest {
    RangeRequest { range_end: "k0".into(), ..get(b"k/") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_range_is_the_same_as_range_at_one_revision() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let mut kv = KvClient::new(cluster.channel(0));
    for number in 0..95 {
        kv.put(put(format!("k/{number:03}").as_bytes(), b"value")).await.unwrap();
    }
    let whole = chunks(&mut kv, all()).await.unwrap();
    let sizes: Vec<usize> = whole.iter().map(|chunk| chunk.kvs.len()).collect();
    assert_eq!(sizes, [10, 20, 40, 25]);
    let (last, before) = whole.split_last().unwrap();
    assert!(before.iter().all(|chunk| chunk.header.is_none() && !chunk.more && chunk.count == 0));
    assert_eq!((last.count, last.more, last.header.as_ref().unwrap().revision), (95, false, 96));
    let requests = [
        all(),
        RangeRequest { limit: 30, ..all() },
        RangeRequest { limit: 95, ..all() },
        RangeRequest { limit: 7, ..all() },
        RangeRequest { revision: 50, ..all() },
        RangeRequest { revision: 50, limit: 25, ..all() },
        RangeRequest { keys_only: true, ..all() },
        RangeRequest { count_only: true, ..all() },
        RangeRequest { serializable: true, range_end: "\0".into(), ..get(b"k/07") },
        RangeRequest { sort_order: SortOrder::Ascend.into(), ..all() },
        get(b"k/001"),
        get(b"nothing"),
    ];
    for request in requests {
        let ranged = kv.range(request.clone()).await.unwrap().into_inner();
        assert_eq!(merged(chunks(&mut kv, request.clone()).await.unwrap()), ranged, "{request:?}");
    }
    // What is written while a stream is under way is not in it.
    let mut stream = kv.range_stream(all()).await.unwrap().into_inner();
    let mut seen = stream.message().await.unwrap().unwrap().range_response.unwrap().kvs.len();
    kv.put(put(b"k/999", b"late")).await.unwrap();
    while let Some(chunk) = stream.message().await.unwrap() {
        seen += chunk.range_response.unwrap().kvs.len();
    }
    assert_eq!(seen, 95);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_streamed_is_refused_as_etcd_does() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let mut kv = KvClient::new(cluster.channel(0));
    for _ in 0..5 {
        kv.put(put(b"k/1", b"value")).await.unwrap();
    }
    kv.compact(CompactionRequest { revision: 4, physical: false }).await.unwrap();
    let sorted = RangeRequest { sort_order: SortOrder::Descend.into(), ..all() };
    let by_value =
        RangeRequest { sort_order: SortOrder::Ascend.into(), sort_target: SortTarget::Value.into(), ..all() };
    let sort = "RangeStream does not support custom sort orders";
    let table = [
        (sorted, Code::Unimplemented, sort),
        (by_value, Code::Unimplemented, sort),
        (
            RangeRequest { min_mod_revision: 2, ..all() },
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ),
        (get(b""), Code::InvalidArgument, "etcdserver: key is not provided"),
        (
            RangeRequest { revision: 3, ..all() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            RangeRequest { revision: 99, ..all() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ];
    for (request, code, message) in table {
        let refused = chunks(&mut kv, request).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (code, message));
    }
    let mut maintenance = MaintenanceClient::new(cluster.channel(0));
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.version.as_str(), status.storage_version.as_str()), ("3.7.0", "3.7.0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_lists_share_a_budget_and_what_exceeds_it_is_refused() {
    const VALUE_BYTES: usize = 256 * 1024;
    const KEYS: usize = 64;
    // Room for one LIST of 16 MiB, which counts twice, and a bit.
    let cluster = Cluster::with_flags(1, &["--max-response-bytes-in-flight=50000000"]);
    cluster.ready(0).await;
    let channel = || cluster.channel(0);
    let mut kv = KvClient::new(channel()).max_decoding_message_size(usize::MAX);
    for number in 0..KEYS {
        kv.put(put(format!("k/{number:03}").as_bytes(), &vec![number as u8; VALUE_BYTES])).await.unwrap();
    }
    // Eight at a time take turns.
    let lists: Vec<_> = (0..8)
        .map(|_| {
            let mut kv = KvClient::new(channel()).max_decoding_message_size(usize::MAX);
            tokio::spawn(async move { kv.range(all()).await.unwrap().into_inner().kvs.len() })
        })
        .collect();
    for list in lists {
        assert_eq!(list.await.unwrap(), KEYS);
    }
    // Twice as much is more than the budget, for Range, but not for a stream.
    for number in KEYS..KEYS * 2 {
        kv.put(put(format!("k/{number:03}").as_bytes(), &vec![number as u8; VALUE_BYTES])).await.unwrap();
    }
    let refused = kv.range(all()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("larger than all responses together"), "{refused}");
    let streamed = chunks(&mut kv, all()).await.unwrap();
    let largest = streamed.iter().map(|chunk| chunk.kvs.len() * VALUE_BYTES).max().unwrap();
    assert!(largest <= 3 << 20, "{largest}");
    assert_eq!(merged(streamed).kvs.len(), KEYS * 2);
    // Clients that ask and do not read hold their share; the next one waits, and is refused. Then they go.
    let mut idle = Vec::new();
    let mut refused = None;
    for _ in 0..40 {
        let mut kv = KvClient::new(channel()).max_decoding_message_size(usize::MAX);
        let opened = kv.range_stream(all()).await.unwrap().into_inner();
        idle.push(opened);
    }
    let begun = std::time::Instant::now();
    while refused.is_none() && begun.elapsed() < Duration::from_secs(30) {
        refused = kv.range(RangeRequest { limit: 60, ..all() }).await.err();
    }
    let refused = refused.expect("the budget is held");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("too many bytes of responses in flight"), "{refused}");
    drop(idle);
    assert_eq!(kv.range(RangeRequest { limit: 60, ..all() }).await.unwrap().into_inner().kvs.len(), 60);
}
