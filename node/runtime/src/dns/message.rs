//! Questions off the wire, answers onto it.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::str::FromStr;
use xebec_node_core::dns::{self as records, Answer, Data, Records, TTL_SECONDS, Type};

/// Largest answer over UDP without EDNS, in bytes (RFC 1035, 4.2.1).
pub(super) const UDP_BYTES: u16 = 512;
/// Largest answer over UDP with EDNS, in bytes: what no path fragments (DNS flag day 2020).
pub(super) const EDNS_BYTES: u16 = 1232;
/// The zone's times in its SOA, in seconds.
const REFRESH_SECONDS: i32 = 7_200;
const RETRY_SECONDS: i32 = 1_800;
const EXPIRE_SECONDS: i32 = 86_400;
/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;

/// What to do with a packet.
pub(super) enum Reply {
    /// Nothing: it is no question.
    None,
    /// Answer this.
    Now(Box<Message>),
    /// Ask others; failing that, answer this.
    Forward(Box<Message>),
}

/// Decides about one packet.
pub(super) fn reply(records: &Records, ready: bool, packet: &[u8]) -> Reply {
    let query = match Message::from_vec(packet) {
        Ok(query) => query,
        Err(_) => return malformed(packet),
    };
    if query.metadata.message_type != MessageType::Query {
        return Reply::None;
    }
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_BYTES).set_version(0);
        answer.set_edns(edns);
        if asked.version() != 0 {
            return with_code(answer, ResponseCode::BADVERS);
        }
    }
    if query.metadata.op_code != OpCode::Query {
        return with_code(answer, ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else { return with_code(answer, ResponseCode::FormErr) };
    answer.add_query(question.clone());
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return with_code(answer, ResponseCode::Refused);
    }
    let found = records.answer(&question.name().to_ascii(), kind(question.query_type()));
    if matches!(found, Answer::NotOurs) {
        answer.metadata.response_code = ResponseCode::Refused;
        return Reply::Forward(Box::new(answer));
    }
    if !ready {
        return with_code(answer, ResponseCode::ServFail);
    }
    answer.metadata.authoritative = true;
    if fill(records, &mut answer, question, found).is_none() {
        // A name the cluster accepted but the wire does not: a Service cannot have such a one.
        return with_code(answer, ResponseCode::ServFail);
    }
    Reply::Now(Box::new(answer))
}

/// How large an answer over UDP may be for this asker.
pub(super) fn udp_limit(packet: &[u8]) -> usize {
    let edns = Message::from_vec(packet).ok().and_then(|query| query.edns);
    usize::from(edns.map_or(UDP_BYTES, |edns| edns.max_payload().clamp(UDP_BYTES, EDNS_BYTES)))
}

fn malformed(packet: &[u8]) -> Reply {
    match packet {
        // The top bit of the third byte marks answers; answering those could start a loop.
        [high, low, flags, ..] if packet.len() >= HEADER_BYTES && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            Reply::Now(Box::new(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)))
        }
        _ => Reply::None,
    }
}

fn with_code(mut answer: Message, code: ResponseCode) -> Reply {
    answer.metadata.response_code = code;
    Reply::Now(Box::new(answer))
}

fn kind(kind: RecordType) -> Type {
    match kind {
        RecordType::A => Type::A,
        RecordType::SRV => Type::Srv,
        RecordType::PTR => Type::Ptr,
        RecordType::TXT => Type::Txt,
        RecordType::SOA => Type::Soa,
        RecordType::NS => Type::Ns,
        RecordType::CNAME => Type::Cname,
        RecordType::ANY => Type::Any,
        _ => Type::Other,
    }
}

fn fill(records: &Records, answer: &mut Message, question: &Query, found: Answer) -> Option<()> {
    match found {
        Answer::Found { answers, additionals } => {
            let asked = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
            for found in &answers {
                // The asker's own spelling comes back: some compare it (draft-vixie-dnsext-dns0x20).
                let name = if found.name == asked { question.name().clone() } else { name(&found.name)? };
                answer.add_answer(record(records, name, &found.data)?);
            }
            for found in &additionals {
                answer.add_additional(record(records, name(&found.name)?, &found.data)?);
            }
        }
        missing @ (Answer::NoData | Answer::NoName | Answer::NotOurs) => {
            if missing == Answer::NoName {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            // The SOA tells how long the absence may be remembered (RFC 2308).
            answer.add_authority(record(records, name(records.domain())?, &Data::Soa)?);
        }
    }
    Some(())
}

fn name(text: &str) -> Option<Name> {
    Name::from_str(&format!("{text}.")).ok()
}

fn record(records: &Records, owner: Name, data: &records::Data) -> Option<Record> {
    let data = match data {
        Data::A(address) => RData::A(A(*address)),
        Data::Srv { weight, port, target } => RData::SRV(SRV::new(0, *weight, *port, name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Ns(target) => RData::NS(NS(name(target)?)),
        Data::Soa => {
            let (primary, mailbox) =
                (format!("ns.dns.{}", records.domain()), format!("hostmaster.{}", records.domain()));
            let minimum = TTL_SECONDS;
            RData::SOA(SOA::new(
                name(&primary)?,
                name(&mailbox)?,
                1,
                REFRESH_SECONDS,
                RETRY_SECONDS,
                EXPIRE_SECONDS,
                minimum,
            ))
        }
    };
    Some(Record::from_rdata(owner, TTL_SECONDS, data))
}
