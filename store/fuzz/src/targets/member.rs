//! A whole member, without its ports: every call of every service, and everything of the HTTP side.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::{Router, body::Body};
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::BodyExt;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use xebec_store::fuzzing::{front, lone_member, read_flags, stop};
use xebec_store_raft::Member;

use super::{Target, join, outcome, scratch_dir};
use xebec_store_dice::Dice;

use crate::{
    generate,
    input::{Input, Part},
};

/// Kinds of parts, above which the number of the method counts.
const MESSAGE: u16 = 0;
const RAW_FRAMES: u16 = 1;
const JSON: u16 = 2;
const HEADERS: u16 = 3;
const KINDS: u16 = 4;
/// Calls after which a member with a fresh directory takes over.
const CALLS_PER_MEMBER: usize = 4_000;
/// How long the answer to a call is waited for; streams and waiting calls are hung up on.
const PATIENCE: Duration = Duration::from_millis(2_000);
const STREAM_PATIENCE: Duration = Duration::from_millis(3);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A member keeps caches.
const MEMBER_ALLOCATION_BYTES_MAX: usize = 512 << 20;
const SEQUENCES: usize = 40;

/// The services, and the member that answers now.
pub struct Calls {
    methods: Vec<MethodDescriptor>,
    runtime: Runtime,
    now: Option<Running>,
    calls: usize,
}

struct Running {
    member: Member,
    router: Router,
    _dir: TempDir,
}

impl Calls {
    pub fn new() -> Result<Self> {
        let pool = generate::pool();
        let services = pool
            .services()
            .filter(|service| !["xebec.peer", "runtime.v1"].iter().any(|other| service.full_name().starts_with(other)));
        let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { methods, runtime, now: None, calls: 0 })
    }

    fn start(&self) -> Result<Running> {
        let dir = scratch_dir()?;
        let words =
            ["--heartbeat-interval=10", "--election-timeout=60", "--bcrypt-cost=4", "--max-request-bytes=65536"];
        let flags = read_flags(&words.map(str::to_owned)).map_err(|error| anyhow!(error))?;
        self.runtime.block_on(async {
            let member = lone_member(&flags, dir.path().join("data")).await?;
            let router = front(&member, &flags)?;
            Ok(Running { member, router, _dir: dir })
        })
    }

    /// The member that answers, a fresh one if the last has seen enough or has stopped.
    fn router(&mut self) -> Router {
        let is_worn = self.now.as_ref().is_some_and(|now| now.member.stopped().is_cancelled());
        if (is_worn || self.calls >= CALLS_PER_MEMBER)
            && let Some(old) = self.now.take()
        {
            self.runtime.block_on(stop(old.member));
        }
        if self.now.is_none() {
            self.calls = 0;
            self.now = Some(self.start().expect("a member starts in an empty directory"));
        }
        self.calls += 1;
        self.now.as_ref().map(|now| now.router.clone()).expect("it was just started")
    }

    fn request(&self, part: &Part, headers: &[(HeaderName, HeaderValue)]) -> (Request<Body>, bool) {
        let method = &self.methods[usize::from(part.kind / KINDS) % self.methods.len()];
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let (path, content_type, body) = match part.kind % KINDS {
            RAW_FRAMES => (path, "application/grpc", part.bytes.clone()),
            JSON => (json_path(method), "application/json", part.bytes.clone()),
            _ => (path, "application/grpc", frame(&part.bytes)),
        };
        let mut request = Request::post(path).header(header::CONTENT_TYPE, content_type);
        request = request.header(header::TE, "trailers").header(header::HOST, "localhost");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let waits = ["Campaign", "Lock", "Observe", "Watch", "LeaseKeepAlive"].contains(&method.name());
        (request.body(Body::from(body)).expect("paths of methods are paths"), waits || method.is_server_streaming())
    }
}

/// gRPC's frame: not compressed, the length, the message.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// Where the gateway has a method; only guessed, which suits for all that matter.
fn json_path(method: &MethodDescriptor) -> String {
    let service = method.parent_service().name().to_lowercase();
    let name = method.name().to_lowercase();
    let name = name.strip_prefix("lease").filter(|_| service == "lease").unwrap_or(&name);
    let name = match (service.as_str(), name) {
        ("kv", "compact") => "compaction".to_owned(),
        ("watch", _) => return "/v3/watch".to_owned(),
        ("cluster", name) => name.replacen("member", "member/", 1),
        ("auth", name) => {
            let name = name.strip_prefix("auth").unwrap_or(name);
            let of_user = name.replacen("user", "user/", 1).replacen("role", "role/", 1);
            of_user.replace("changepassword", "changepw").replace("grantrole/", "grant").replace("permission", "")
        }
        (_, name) => name.to_owned(),
    };
    format!("/v3/{service}/{name}")
}

/// `name: value`, a line each; what is no header is left out.
fn headers_of(bytes: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
    let header = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let value = line[at + 1..].trim_ascii();
        Some((HeaderName::from_bytes(&line[..at]).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    bytes.split(|byte| *byte == b'\n').filter_map(header).collect()
}

/// Sends a request and reads the answer as far as it comes.
async fn call(router: Router, request: Request<Body>, patience: Duration) -> u64 {
    let answered = tokio::time::timeout(patience, async {
        let response = match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let mut told = format!("{:?} {:?}", response.status(), response.headers().get("grpc-message"));
        let mut body = response.into_body();
        let mut read = 0;
        while read < ANSWER_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, bytes::Bytes::len);
            if let Some(trailers) = frame.trailers_ref() {
                told.push_str(&format!("{:?}", trailers.get("grpc-message")));
            }
        }
        outcome(&told.replace("None", ""))
    });
    answered.await.unwrap_or(7)
}

fn json(descriptor: &MessageDescriptor, bytes: &[u8]) -> Option<Vec<u8>> {
    let message = DynamicMessage::decode(descriptor.clone(), bytes).ok()?;
    // Good enough as text to begin with: field names and simple values.
    let fields: Vec<String> = message
        .fields()
        .map(|(field, value)| match value {
            prost_reflect::Value::Bool(it) => format!("\"{}\":{it}", field.json_name()),
            prost_reflect::Value::I64(it) => format!("\"{}\":\"{it}\"", field.json_name()),
            prost_reflect::Value::Bytes(_) => format!("\"{}\":\"YQ==\"", field.json_name()),
            prost_reflect::Value::String(it) => format!("\"{}\":{it:?}", field.json_name()),
            _ => format!("\"{}\":{{}}", field.json_name()),
        })
        .collect();
    Some(format!("{{{}}}", fields.join(",")).into_bytes())
}

impl Target for Calls {
    fn seeds(&self) -> Result<Vec<Input>> {
        let mut dice = Dice::new(2);
        let mut seeds = Vec::new();
        for (number, method) in (0..).zip(&self.methods) {
            let number: u16 = number * KINDS;
            for _ in 0..4 {
                let bytes = generate::message(&method.input(), &mut dice);
                seeds.push(Input::one(number + JSON, json(&method.input(), &bytes).context("no message")?));
                seeds.push(Input::one(number + RAW_FRAMES, frame(&bytes)));
                seeds.push(Input::one(number + MESSAGE, bytes));
            }
        }
        for _ in 0..SEQUENCES {
            let mut parts =
                vec![Part::new(HEADERS, *b"hasleader: true\nauthorization: a.1\ntoken: x\ngrpc-timeout: 5m")];
            parts.extend((0..5).map(|_| dice.pick(&seeds).parts[0].clone()));
            seeds.push(Input { parts });
        }
        Ok(seeds)
    }

    fn run(&mut self, input: &Input) -> u64 {
        let mut headers = Vec::new();
        let mut told = 0;
        for part in &input.parts {
            if part.kind % KINDS == HEADERS {
                headers = headers_of(&part.bytes);
                continue;
            }
            let router = self.router();
            let (request, is_stream) = self.request(part, &headers);
            let patience = if is_stream { STREAM_PATIENCE } else { PATIENCE };
            told = join(told, self.runtime.block_on(call(router, request, patience)));
        }
        told
    }

    fn allocation_bytes_max(&self) -> usize {
        MEMBER_ALLOCATION_BYTES_MAX
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b":",
            b",",
            b"null",
            b"true",
            b"1e400",
            b"-9223372036854775808",
            b"\\ud800",
            b"\"key\":\"YQ==\"",
            b"\"requestPut\":{\"key\":\"YQ==\"}",
            b"\"success\":[",
            b"\"create_request\":{",
            b"\xff",
            b"grpc-encoding: gzip\n",
            b"grpc-timeout: 99999999999H\n",
            b"content-encoding: gzip\n",
            b"token: \xff\n",
        ]
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(now) = self.now.take() {
            self.runtime.block_on(stop(now.member));
        }
    }
}
