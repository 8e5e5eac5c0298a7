//! The longest time without an acknowledged write when the leader is killed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    members::{MEMBERS, Members},
    session::Session,
};

/// Writers at each member.
const WRITERS_PER_MEMBER: usize = 4;
/// Writing before and after the kill.
const WINDOW: Duration = Duration::from_secs(4);
/// A writer that got no answer for so long leaves the request alone and sends another: what was under way at a dead leader
/// is answered late or never, on both sides.
const ANSWER_LIMIT: Duration = Duration::from_millis(250);
/// Pause after an error, so that writers at the dead member do not take the cores from the others.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// Kills the leader while clients of every member write, and starts it again.
///
/// # Errors
/// The cluster does not come back.
pub async fn after_kill_of_leader(members: &mut Members) -> Result<Duration> {
    let stop = CancellationToken::new();
    let gap = Arc::new(Mutex::new((Instant::now(), Duration::ZERO)));
    let mut writers = Vec::new();
    for number in 0..MEMBERS * WRITERS_PER_MEMBER {
        let mut session = Session::new(members.line(number)?, number);
        let (stop, gap) = (stop.clone(), gap.clone());
        writers.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                match timeout(ANSWER_LIMIT, session.put()).await {
                    Ok(Ok(())) => {
                        let mut gap = gap.lock().await;
                        *gap = (Instant::now(), gap.1.max(gap.0.elapsed()));
                    }
                    Ok(Err(_)) => tokio::time::sleep(REFUSED_PAUSE).await,
                    Err(_) => {}
                }
            }
        }));
    }
    tokio::time::sleep(WINDOW).await;
    let leader = members.leader().await?;
    *gap.lock().await = (Instant::now(), Duration::ZERO);
    members.kill(leader)?;
    tokio::time::sleep(WINDOW).await;
    stop.cancel();
    for writer in writers {
        writer.await?;
    }
    let (last, longest) = *gap.lock().await;
    // Had no write come back, the gap would still be open.
    let longest = longest.max(last.elapsed());
    members.start_one(leader)?;
    members.wait_until_writable(leader).await?;
    Ok(longest)
}
