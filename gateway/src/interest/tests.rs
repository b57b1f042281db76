use super::*;

fn channel(name: &str) -> Channel {
    name.into()
}

#[test]
fn a_watched_channel_is_requested_once_and_confirmed() {
    let mut interest = Interest::new(Duration::from_secs(30));
    interest.watch(&channel("a"));
    interest.watch(&channel("a"));
    assert_eq!(interest.begin_subscribing(10), [channel("a")]);
    assert!(interest.begin_subscribing(10).is_empty());
    assert!(!interest.is_confirmed(&channel("a")));
    assert_eq!(interest.confirm(vec![channel("a")]), [channel("a")]);
    assert!(interest.is_confirmed(&channel("a")));
}

#[test]
fn a_subscription_lingers_for_clients_that_come_back() {
    let start = Instant::now();
    let seconds = |seconds| start + Duration::from_secs(seconds);
    let mut interest = Interest::new(Duration::from_secs(30));
    interest.watch(&channel("a"));
    interest.begin_subscribing(10);
    interest.confirm(vec![channel("a")]);
    interest.unwatch(&channel("a"), start);
    assert!(interest.begin_unsubscribing(seconds(29), 10).is_empty());
    interest.watch(&channel("a"));
    assert!(interest.is_confirmed(&channel("a")));
    assert!(interest.begin_unsubscribing(seconds(60), 10).is_empty());
    interest.unwatch(&channel("a"), start);
    assert_eq!(
        interest.begin_unsubscribing(seconds(30), 10),
        [channel("a")]
    );
    interest.confirm_left(&[channel("a")]);
    assert_eq!(interest.len(), 0);
}

#[test]
fn a_channel_watched_again_while_it_is_being_left_is_requested_only_after_the_answer() {
    let start = Instant::now();
    let mut interest = Interest::new(Duration::ZERO);
    interest.watch(&channel("a"));
    interest.begin_subscribing(10);
    interest.confirm(vec![channel("a")]);
    interest.unwatch(&channel("a"), start);
    assert_eq!(interest.begin_unsubscribing(start, 10), [channel("a")]);
    interest.watch(&channel("a"));
    assert!(interest.begin_subscribing(10).is_empty());
    interest.confirm_left(&[channel("a")]);
    assert_eq!(interest.begin_subscribing(10), [channel("a")]);
}

#[test]
fn a_channel_that_is_no_longer_watched_is_not_requested() {
    let start = Instant::now();
    let mut interest = Interest::new(Duration::from_secs(30));
    interest.watch(&channel("a"));
    interest.unwatch(&channel("a"), start);
    assert!(interest.begin_subscribing(10).is_empty());
    interest.watch(&channel("a"));
    assert_eq!(interest.begin_subscribing(10), [channel("a")]);
}

#[test]
fn a_lost_connection_queues_every_watched_channel_again() {
    let mut interest = Interest::new(Duration::from_secs(30));
    for name in ["a", "b", "c"] {
        interest.watch(&channel(name));
    }
    let requested = interest.begin_subscribing(2);
    assert_eq!(requested.len(), 2);
    interest.confirm(requested);
    interest.unwatch(&channel("a"), Instant::now());
    interest.lose_all();
    assert_eq!(interest.len(), 2);
    assert_eq!(interest.begin_subscribing(10).len(), 2);
}
