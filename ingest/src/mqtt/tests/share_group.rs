//! Replicas of a share group, and how a member leaves it.

use super::*;

#[tokio::test]
async fn replicas_of_a_share_group_divide_the_messages() {
    let broker = Broker::start("").await;
    let group = |id| ["--mqtt-share-group", "g", "--mqtt-client-id", id];
    let mut one = broker.client(&group("one")).await;
    let mut two = broker.client(&group("two")).await;
    let mut device = broker.publisher("device").await;
    let expected: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    for text in &expected {
        device.publish(text.as_str()).await;
    }
    let total = async || one.status.received() + two.status.received() == 20;
    eventually("all are received", total).await;
    let mut seen = Vec::new();
    for client in [&mut one, &mut two] {
        assert!(client.status.received() > 0, "one replica got nothing");
        while let Ok(message) = client.messages.try_recv() {
            seen.extend(texts(std::slice::from_ref(&message)));
        }
    }
    seen.sort();
    assert_eq!(seen, expected);
}

/// Two members of a share group. Each has more messages in its session than its receive window of 4.
async fn two_members(broker: &Broker, more: &[&str]) -> (TestClient, TestClient, Publisher) {
    let member = async |id| {
        let group = ["--mqtt-share-group", "g", "--mqtt-client-id", id];
        let window = ["--mqtt-receive-maximum", "4"];
        let args: Vec<&str> = group.iter().chain(&window).chain(more).copied().collect();
        broker.client(&args).await
    };
    let (one, two) = (member("one").await, member("two").await);
    let mut device = broker.publisher("device").await;
    for number in 0..40 {
        device.publish(format!("{number:02}")).await;
    }
    (one, two, device)
}

#[tokio::test]
async fn a_member_that_leaves_empties_and_removes_its_session() {
    for more in [&[][..], &["--mqtt-session-expiry", "0s"]] {
        let broker = Broker::start("").await;
        let (mut one, mut two, mut device) = two_members(&broker, more).await;
        one.lifecycle.request_stop();
        one.session_at_exit.send_replace(SessionAtExit::Remove);
        let mut seen = one.finish_all().await;
        assert!(seen.len() > 8, "no more than two windows: {seen:?}");
        assert_eq!(
            (one.status.state(), one.status.last_error()),
            (ConnectionState::Stopped, None)
        );
        one.stop().await;
        for number in 40..50 {
            device.publish(format!("{number:02}")).await;
        }
        while seen.len() < 50 {
            let message = two.receive().await;
            seen.extend(texts(std::slice::from_ref(&message)));
            message.ack.done();
        }
        seen.sort();
        let expected: Vec<String> = (0..50).map(|number| format!("{number:02}")).collect();
        assert_eq!(seen, expected);
        assert!(!has_session(&broker, "one").await);
    }
}

#[tokio::test]
async fn a_member_without_a_decision_keeps_its_session() {
    let broker = Broker::start("").await;
    let (mut one, _two, _device) = two_members(&broker, &[]).await;
    one.lifecycle.request_stop();
    drop(std::mem::replace(
        &mut one.session_at_exit,
        watch::channel(SessionAtExit::Remove).0,
    ));
    one.finish_all().await;
    assert_eq!(one.status.state(), ConnectionState::Stopped);
    one.stop().await;
    assert!(has_session(&broker, "one").await);
}

#[tokio::test]
async fn a_member_that_cannot_empty_its_session_in_time_loses_nothing() {
    let broker = Broker::start("").await;
    let (mut one, two, _device) = two_members(&broker, &[]).await;
    let total = async || one.status.received() + two.status.received() == 8;
    eventually("both windows are full", total).await;
    one.lifecycle.request_stop();
    one.session_at_exit.send_replace(SessionAtExit::Remove);
    // No message is committed until the drain period is over.
    let held: [MqttMessage; 4] = one.receive_n().await;
    one.kill().await;
    drop(held);

    let group = ["--mqtt-share-group", "g", "--mqtt-client-id", "one"];
    let mut one = broker.client(&group).await;
    let messages: [MqttMessage; 20] = one.receive_n().await;
    assert!(messages[..4].iter().all(|message| message.dup));
}
