//! What the trace says of a message.

use http_body::Frame;

use super::{HostId, Inner, Payload, Piece};

impl Inner {
    /// Notes a message's arrival.
    pub(super) fn trace_delivery(&mut self, from: HostId, to: HostId, id: u64, payload: &Payload) {
        let Some(call) = self.calls.get(&id) else { return };
        // Tables have contents and directories sizes that RocksDB does not repeat exactly: names, times, logs.
        let is_stable = !call.path.ends_with("InstallSnapshot") && !call.path.ends_with("/Status");
        let (kind, digest) = match payload {
            Payload::Open { whole, .. } => ("->", whole.as_ref().map_or(0, |bytes| crc32c::crc32c(bytes))),
            Payload::RequestPiece(Piece::Frame(frame)) => {
                ("+>", frame.data_ref().map_or(0, |data| crc32c::crc32c(data)))
            }
            Payload::ResponsePiece(Piece::Frame(frame)) => {
                ("<+", frame.data_ref().map_or(0, |data| crc32c::crc32c(data)))
            }
            Payload::RequestPiece(Piece::End) => (".>", 0),
            Payload::ResponsePiece(Piece::End) => ("<.", 0),
            Payload::Refused => ("<!", 0),
            Payload::Head { whole, .. } => {
                let data = whole.iter().flatten().filter_map(Frame::data_ref);
                ("<-", data.fold(0, |crc, data| crc32c::crc32c_append(crc, data)))
            }
        };
        let digest = if is_stable { digest } else { 0 };
        self.trace.message(self.now_micros, from, to, kind, &call.path, digest);
    }
}
