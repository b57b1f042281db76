use super::*;

fn channel(name: &str) -> Channel {
    name.into()
}

#[test]
fn watched_channel_is_asked_for_once_and_confirmed() {
    let mut interest = Interest::new(Duration::from_secs(30));
    interest.watch(&channel("a"));
    interest.watch(&channel("a"));
    assert_eq!(interest.ask(10), [channel("a")]);
    assert!(interest.ask(10).is_empty());
    assert!(!interest.is_confirmed(&channel("a")));
    assert_eq!(interest.confirm(vec![channel("a")]), [channel("a")]);
    assert!(interest.is_confirmed(&channel("a")));
}

#[test]
fn subscription_lingers_for_those_who_come_back() {
    let start = Instant::now();
    let mut interest = Interest::new(Duration::from_secs(30));
    interest.watch(&channel("a"));
    interest.ask(10);
    interest.confirm(vec![channel("a")]);
    interest.unwatch(&channel("a"), start);
    assert!(
        interest
            .leave(start + Duration::from_secs(29), 10)
            .is_empty()
    );
    interest.watch(&channel("a"));
    assert!(interest.is_confirmed(&channel("a")));
    assert!(
        interest
            .leave(start + Duration::from_mins(1), 10)
            .is_empty()
    );
    interest.unwatch(&channel("a"), start);
    assert_eq!(
        interest.leave(start + Duration::from_secs(30), 10),
        [channel("a")]
    );
    interest.left(&[channel("a")]);
    assert_eq!(interest.len(), 0);
}

#[test]
fn watched_again_while_being_left_is_asked_for_only_after_the_answer() {
    let start = Instant::now();
    let mut interest = Interest::new(Duration::ZERO);
    interest.watch(&channel("a"));
    interest.ask(10);
    interest.confirm(vec![channel("a")]);
    interest.unwatch(&channel("a"), start);
    assert_eq!(interest.leave(start, 10), [channel("a")]);
    interest.watch(&channel("a"));
    assert!(interest.ask(10).is_empty());
    interest.left(&[channel("a")]);
    assert_eq!(interest.ask(10), [channel("a")]);
}

#[test]
fn lost_connection_makes_every_watched_channel_wanted_again() {
    let mut interest = Interest::new(Duration::from_secs(30));
    for name in ["a", "b", "c"] {
        interest.watch(&channel(name));
    }
    let asked = interest.ask(2);
    assert_eq!(asked.len(), 2);
    interest.confirm(asked);
    interest.unwatch(&channel("a"), Instant::now());
    interest.lose_all();
    assert_eq!(interest.len(), 2);
    assert_eq!(interest.ask(10).len(), 2);
}
