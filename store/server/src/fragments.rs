//! Splitting a watch response that is too large for one message, for clients that asked for it.

use prost::{Message, encoding::encoded_len_varint};
use xebec_proto::etcdserverpb::WatchResponse;

/// Splits a response as etcd does (`v3rpc/watch.go`, `sendFragments`): parts stay below `bytes_max` unless one event
/// alone does not; all but the last say that more follow. Here even one revision's events may be torn apart.
pub(crate) fn split(response: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    if response.encoded_len() < bytes_max || response.events.len() < 2 {
        return vec![response];
    }
    let WatchResponse { events, .. } = response;
    let empty = WatchResponse { events: Vec::new(), fragment: true, ..response };
    let empty_bytes = empty.encoded_len();
    let mut parts = vec![empty.clone()];
    let mut bytes = empty_bytes;
    for event in events {
        let length = event.encoded_len();
        // The field's number takes a byte, its length one or more.
        let added = 1 + encoded_len_varint(length as u64) + length;
        let part = parts.last_mut().expect("there is always one");
        if part.events.is_empty() || bytes + added < bytes_max {
            bytes += added;
            part.events.push(event);
        } else {
            bytes = empty_bytes + added;
            parts.push(WatchResponse { events: vec![event], ..empty.clone() });
        }
    }
    parts.last_mut().expect("there is always one").fragment = false;
    parts
}

#[cfg(test)]
mod tests {
    use xebec_proto::mvccpb::{Event, KeyValue};

    use super::*;

    fn response(value_bytes: &[usize]) -> WatchResponse {
        let event = |bytes: &usize| Event {
            kv: Some(KeyValue { value: vec![0; *bytes].into(), ..KeyValue::default() }),
            ..Event::default()
        };
        WatchResponse { watch_id: 7, events: value_bytes.iter().map(event).collect(), ..WatchResponse::default() }
    }

    #[test]
    fn a_response_is_split_below_the_limit_and_only_the_last_part_says_so() {
        let table: [(&[usize], &[usize]); 6] = [
            (&[50], &[1]),
            (&[5_000], &[1]),
            (&[300, 300], &[2]),
            (&[600, 600, 100], &[1, 2]),
            (&[5_000, 5_000, 1], &[1, 1, 1]),
            (&[300; 10], &[3, 3, 3, 1]),
        ];
        for (sizes, expected) in table {
            let parts = split(response(sizes), 1_000);
            let found: Vec<usize> = parts.iter().map(|part| part.events.len()).collect();
            assert_eq!(found, expected, "{sizes:?}");
            for (number, part) in parts.iter().enumerate() {
                assert_eq!((part.watch_id, part.fragment), (7, number + 1 < parts.len()));
                assert!(part.events.len() == 1 || part.encoded_len() < 1_000);
            }
        }
    }
}
