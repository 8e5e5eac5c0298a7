//! `/containerLogs`: CRI log files as `kubectl logs` wants them.

use std::{
    collections::VecDeque,
    io::{self, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncSeekExt, BufReader},
    sync::mpsc,
};
use xebec_node_core::{actual::State, pod};

use super::{Body, plain, query_pairs};
use crate::kubelet::{Kubelet, LogPaths};

/// Pieces of a log waiting for a slow reader.
const PIECES_MAX: usize = 32;
/// How often a followed log is looked at when it is quiet.
const FOLLOW_POLL: Duration = Duration::from_millis(100);
/// Quiet looks between two questions whether the container still runs.
const QUIET_LOOKS: u32 = 10;

/// What is wanted of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    follow: bool,
    previous: bool,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    limit_bytes: Option<u64>,
}

impl Wanted {
    fn parse(query: &str, now: Timestamp) -> Result<Self, String> {
        let mut wanted = Self::default();
        for (name, value) in query_pairs(query) {
            let flag = || matches!(value.as_str(), "true" | "1" | "True");
            let wrong = |_| format!("invalid {name}: {value:?}");
            match name.as_str() {
                "follow" => wanted.follow = flag(),
                "previous" => wanted.previous = flag(),
                "timestamps" => wanted.timestamps = flag(),
                "sinceSeconds" => {
                    let seconds: i64 = value.parse().map_err(|_| wrong(()))?;
                    wanted.since = now.checked_sub(SignedDuration::from_secs(seconds)).ok();
                }
                "sinceTime" => wanted.since = Some(value.parse().map_err(|_| wrong(()))?),
                "tailLines" => wanted.tail = Some(value.parse().map_err(|_| wrong(()))?),
                "limitBytes" => wanted.limit_bytes = Some(value.parse().map_err(|_| wrong(()))?),
                _ => {}
            }
        }
        Ok(wanted)
    }

    /// The line as the reader gets it, if it does: a CRI line is `time stream tag content`.
    fn shown(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let (time, _stream, tag) = (words.next()?, words.next()?, words.next()?);
        let content = words.next().unwrap_or_default();
        let time = std::str::from_utf8(time).ok()?;
        if let Some(since) = self.since
            && time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return None;
        }
        let mut shown = Vec::with_capacity(line.len());
        if self.timestamps {
            shown.extend_from_slice(time.as_bytes());
            shown.push(b' ');
        }
        shown.extend_from_slice(content.strip_suffix(b"\n").unwrap_or(content));
        // A partial line goes on in the next record.
        if !tag.starts_with(b"P") {
            shown.push(b'\n');
        }
        Some(shown)
    }
}

pub(super) async fn serve(
    kubelet: &Arc<Kubelet>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &str,
) -> Response<Body> {
    let wanted = match Wanted::parse(query, Timestamp::now()) {
        Ok(wanted) => wanted,
        Err(reason) => return plain(StatusCode::BAD_REQUEST, reason),
    };
    let Some(found) = kubelet.pod(namespace, name) else {
        return plain(StatusCode::NOT_FOUND, format!("pod {name:?} not found"));
    };
    let actual = match kubelet.parts.runtime.observe(pod::uid(&found)).await {
        Ok(actual) => actual,
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let instance = if wanted.previous { actual.previous(container) } else { actual.newest(container) };
    let Some(instance) = instance else {
        let what = if wanted.previous { "previous terminated container" } else { "container" };
        let message = if pod::container(&found, container).is_none() {
            format!("container {container} is not valid for pod {name}")
        } else {
            format!("{what} \"{container}\" in pod \"{name}\" not found")
        };
        return plain(StatusCode::BAD_REQUEST, message);
    };
    let paths = LogPaths::new(&kubelet.parts.settings, &found, container, instance.restart_count);
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, io::Error>>(PIECES_MAX);
    let reader = Reader {
        kubelet: kubelet.clone(),
        uid: pod::uid(&found).to_owned(),
        id: instance.id.clone(),
        left: wanted.limit_bytes.unwrap_or(u64::MAX),
        wanted,
        sender,
    };
    tokio::spawn(async move {
        let sender = reader.sender.clone();
        if let Err(error) = reader.run(paths).await
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            // The reader may be gone, which is how most followed logs end.
            sender.send(Err(error)).await.ok();
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(stream)));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    answer
}

struct Reader {
    kubelet: Arc<Kubelet>,
    uid: String,
    id: String,
    wanted: Wanted,
    left: u64,
    sender: mpsc::Sender<Result<Frame<Bytes>, io::Error>>,
}

impl Reader {
    async fn run(mut self, paths: LogPaths) -> io::Result<()> {
        let files = paths.all();
        let current = paths.current();
        let mut tail: VecDeque<Vec<u8>> = VecDeque::new();
        let mut position = 0;
        for path in &files {
            let mut lines = match open(path, 0).await? {
                Some(lines) => lines,
                None => continue,
            };
            position = 0;
            while let Some(line) = next_line(&mut lines).await? {
                position += line.len() as u64;
                let Some(shown) = self.wanted.shown(&line) else { continue };
                match self.wanted.tail {
                    None => self.send(shown).await?,
                    Some(lines) => {
                        tail.push_back(shown);
                        if tail.len() > lines {
                            tail.pop_front();
                        }
                    }
                }
            }
        }
        for line in tail {
            self.send(line).await?;
        }
        if self.wanted.follow { self.follow(current, position).await } else { Ok(()) }
    }

    async fn follow(&mut self, path: PathBuf, mut position: u64) -> io::Result<()> {
        let mut quiet = 0;
        loop {
            // A rotated log starts anew under the same name.
            let length = tokio::fs::metadata(&path).await.map_or(0, |metadata| metadata.len());
            if length < position {
                position = 0;
            }
            let mut read = false;
            if length > position
                && let Some(mut lines) = open(&path, position).await?
            {
                while let Some(line) = next_line(&mut lines).await? {
                    position += line.len() as u64;
                    read = true;
                    if let Some(shown) = self.wanted.shown(&line) {
                        self.send(shown).await?;
                    }
                }
            }
            quiet = if read { 0 } else { quiet + 1 };
            if quiet >= QUIET_LOOKS {
                quiet = 0;
                let actual = self.kubelet.parts.runtime.observe(&self.uid).await.map_err(io::Error::other)?;
                let running = actual.containers.iter().any(|c| c.id == self.id && c.state == State::Running);
                if !running {
                    return Ok(());
                }
            }
            tokio::select! {
                () = self.sender.closed() => return Ok(()),
                () = tokio::time::sleep(FOLLOW_POLL) => {}
            }
        }
    }

    async fn send(&mut self, mut piece: Vec<u8>) -> io::Result<()> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        piece.truncate(room);
        self.left -= piece.len() as u64;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.sender.send(Ok(Frame::data(piece.into()))).await.map_err(gone)?;
        if self.left == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

async fn open(path: &PathBuf, position: u64) -> io::Result<Option<BufReader<File>>> {
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(position)).await?;
    Ok(Some(BufReader::new(file)))
}

/// The next whole line; a line being written is left for later.
async fn next_line(lines: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).await?;
    Ok(line.ends_with(b"\n").then_some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_prefix_and_keep_their_rest() {
        let line = b"2026-11-21T03:00:00.5Z stdout F a b\n";
        let now = "2026-11-21T03:00:10Z".parse().unwrap();
        let shown = |query: &str| Wanted::parse(query, now).unwrap().shown(line).map(|l| String::from_utf8(l).unwrap());
        assert_eq!(shown("").as_deref(), Some("a b\n"));
        assert_eq!(shown("timestamps=true").as_deref(), Some("2026-11-21T03:00:00.5Z a b\n"));
        assert_eq!(shown("sinceSeconds=5"), None);
        assert_eq!(shown("sinceSeconds=15").as_deref(), Some("a b\n"));
        assert_eq!(Wanted::default().shown(b"t stdout P half\n").unwrap(), b"half");
        assert!(Wanted::parse("tailLines=x", now).is_err());
    }
}
