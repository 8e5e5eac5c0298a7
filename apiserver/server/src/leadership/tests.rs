use super::*;
use crate::store::Outcome;
use crate::testing::Etcd;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

async fn until_leading(lines: &mut mpsc::Receiver<Line>) -> Fence {
    loop {
        match lines.recv().await.expect("the campaign goes on") {
            Line::Leading { fence } => return Fence::parse(&fence).expect("a token"),
            Line::Lost => panic!("lost"),
            Line::Campaigning | Line::Alive => {}
        }
    }
}

#[tokio::test]
async fn the_next_candidate_leads_as_soon_as_the_leader_hangs_up() {
    let Some((_etcd, store)) = Etcd::start().await else { return };
    let stop = CancellationToken::new();
    let enter = |identity: &str| {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(campaign(Arc::clone(&store), "kube-scheduler".into(), identity.into(), sender, stop.clone()));
        receiver
    };
    let mut first = enter("a");
    let fence = until_leading(&mut first).await;
    let mut second = enter("b");
    assert_eq!(second.recv().await, Some(Line::Campaigning));
    assert_eq!(second.recv().await, Some(Line::Alive));
    drop(first);
    let started = std::time::Instant::now();
    let next = until_leading(&mut second).await;
    assert!(next.create_revision > fence.create_revision);
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "took {:?}", started.elapsed());
    let stale = crate::store::Txn {
        checks: vec![fence.check()],
        puts: vec![("/r/x".into(), "1".into())],
        ..Default::default()
    };
    assert!(matches!(store.commit(&stale).await, Ok(Outcome::Failed(_))));
    stop.cancel();
}
