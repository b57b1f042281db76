//! How those who follow all devices find out what has changed.

use super::*;

async fn look(store: &Store, mark: Option<PartitionMark>, heard_since: Option<Time>) -> Look {
    let partition = device().partition(store.partitions());
    let at = LookAt {
        partition,
        mark,
        heard_since,
    };
    let looks = store.look(&[at]).await.expect("looked");
    looks.into_iter().next().expect("one partition")
}

fn found(look: &Look) -> Option<usize> {
    look.numbered.as_ref().map(Vec::len)
}

#[tokio::test]
async fn a_device_is_found_by_its_alarm_changes_and_by_its_last_message() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "1", 0).await;
    let first = look(&store, None, None).await;
    assert_eq!((found(&first), first.listed), (None, 1));
    assert_eq!(first.heard, []);
    // A usual reading: only the time of the message tells.
    commit_reading(&store, DEVICE, "2", 1).await;
    let usual = look(&store, first.mark, Some(Time::from_millis(0))).await;
    assert_eq!((found(&usual), usual.heard.len()), (Some(0), 1));
    let at = usual.heard[0].1;
    assert_eq!(usual.mark, first.mark);
    // A raise and an end, and with them two numbers. Each is found once.
    commit_reading(&store, DEVICE, "300", 2).await;
    commit_reading(&store, DEVICE, "1", 3).await;
    let raised = look(&store, usual.mark, Some(at + Duration::from_millis(1))).await;
    assert_eq!(raised.numbered, Some(vec![device()]));
    let after = look(&store, raised.mark, Some(at + Duration::from_hours(1))).await;
    assert_eq!((found(&after), after.heard.len()), (Some(0), 0));

    let shown = store.shown_devices(&[(device(), Some(0))]).await;
    let (shown, changes) = shown.expect("read").remove(0);
    let shown = shown.expect("a device");
    assert!(!shown.is_lost && shown.state.alarms.is_empty());
    let kinds: Vec<_> = changes
        .changes
        .iter()
        .map(|(_, changed)| changed.change)
        .collect();
    assert_eq!(kinds, [Some(ChangeKind::Raised), Some(ChangeKind::Cleared)]);
    assert!(!changes.may_lack);
    let seq = changes.changes[0].0.seq;
    let later = store
        .shown_devices(&[(device(), Some(seq))])
        .await
        .expect("read");
    assert_eq!(later[0].1.changes.len(), 1);
    let glance = store.glance_at_alarms(&[device()]).await.expect("read");
    assert_eq!(glance[0].position, Some(shown.state.position));
    assert!(!glance[0].may_have_alarms);
}

#[tokio::test]
async fn an_acknowledgement_and_a_retirement_are_found() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "300", 0).await;
    let before = look(&store, None, None).await;
    let state = store
        .shown_devices(&[(device(), None)])
        .await
        .expect("read");
    let alarm = state[0].0.as_ref().expect("a device").state.alarms[0]
        .id
        .clone();
    let answer = acknowledge(&store, &device(), acknowledging(&alarm, "Asha", None)).await;
    assert_eq!(answer.expect("answered").answer, Acknowledged::Covered);
    let acknowledged = look(&store, before.mark, None).await;
    assert_eq!(acknowledged.numbered, Some(vec![device()]));
    crate::apply::retire(&store, &device(), "Asha")
        .await
        .expect("retired");
    let retired = look(&store, acknowledged.mark, None).await;
    assert_eq!((found(&retired), retired.listed), (Some(0), 0));
    let nothing = store
        .shown_devices(&[(device(), Some(0))])
        .await
        .expect("read");
    assert!(nothing[0].0.is_none() && nothing[0].1.changes.is_empty());
}
