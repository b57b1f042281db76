use super::*;

fn channel(name: &str) -> Channel {
    name.into()
}

fn channels(names: &[&str]) -> Vec<Channel> {
    names.iter().map(|name| channel(name)).collect()
}

fn numbered(count: usize) -> Vec<Channel> {
    (0..count)
        .map(|number| channel(&number.to_string()))
        .collect()
}

/// An interest whose subscriptions linger for 30 s, in any number.
fn interest() -> Interest {
    bounded(usize::MAX)
}

fn bounded(max: usize) -> Interest {
    Interest::new(Linger {
        time: Duration::from_secs(30),
        max,
    })
}

/// Watches the channels and confirms their subscriptions.
fn subscribe(interest: &mut Interest, channels: &[Channel]) {
    for channel in channels {
        interest.watch(channel);
    }
    while let Some(requested) = interest.begin_subscribing() {
        interest.finish_subscribing(requested, Vec::new(), false);
    }
}

/// Leaves everything that must be left now, and returns it.
fn leave_all(interest: &mut Interest, now: Instant) -> Vec<Channel> {
    let mut all = Vec::new();
    while let Some(leaving) = interest.begin_leaving(now) {
        interest.finish_leaving(&leaving, Vec::new());
        all.extend(leaving);
    }
    all
}

#[test]
fn a_watched_channel_is_requested_once_and_confirmed() {
    let mut interest = interest();
    interest.watch(&channel("a"));
    interest.watch(&channel("a"));
    assert_eq!(interest.begin_subscribing(), Some(channels(&["a"])));
    assert_eq!(interest.begin_subscribing(), None);
    assert!(!interest.is_confirmed(&channel("a")));
    let watched = interest.finish_subscribing(channels(&["a"]), Vec::new(), false);
    assert_eq!(watched, channels(&["a"]));
    assert!(interest.is_confirmed(&channel("a")));
}

#[test]
fn a_subscription_lingers_for_clients_that_come_back() {
    let start = Instant::now();
    let seconds = |seconds| start + Duration::from_secs(seconds);
    let mut interest = interest();
    subscribe(&mut interest, &channels(&["a"]));
    interest.unwatch(&channel("a"), start);
    assert_eq!(interest.begin_leaving(seconds(29)), None);
    interest.watch(&channel("a"));
    assert!(interest.is_confirmed(&channel("a")));
    assert_eq!(interest.begin_leaving(seconds(60)), None);
    interest.unwatch(&channel("a"), start);
    assert_eq!(leave_all(&mut interest, seconds(30)), channels(&["a"]));
    assert_eq!((interest.len(), interest.lingering()), (0, 0));
}

#[test]
fn beyond_the_bound_the_oldest_lingering_channels_are_left_at_once() {
    let now = Instant::now();
    let mut interest = bounded(2);
    subscribe(&mut interest, &channels(&["a", "b", "c", "d"]));
    for name in ["a", "b", "c", "d"] {
        interest.unwatch(&channel(name), now);
    }
    assert_eq!(leave_all(&mut interest, now), channels(&["a", "b"]));
    assert_eq!((interest.len(), interest.lingering()), (2, 2));
}

#[test]
fn lingering_channels_drain_as_fast_as_they_fill() {
    let now = Instant::now();
    let mut interest = bounded(100);
    let mut largest = 0;
    // Each round, a client subscribes to new devices and leaves them, as fast as Redis answers.
    for round in 0..50 {
        let names = (0..CHUNK).map(|number| channel(&format!("{round} {number}")));
        let names: Vec<Channel> = names.collect();
        for name in &names {
            interest.watch(name);
        }
        let requested = interest.begin_subscribing().expect("a chunk");
        let leaving = interest.begin_leaving(now);
        interest.finish_subscribing(requested, Vec::new(), false);
        if let Some(leaving) = leaving {
            interest.finish_leaving(&leaving, Vec::new());
        }
        for name in &names {
            interest.unwatch(name, now);
        }
        largest = largest.max(interest.len());
    }
    assert!(largest <= 100 + 2 * CHUNK, "{largest}");
}

#[test]
fn a_channel_watched_again_while_it_is_being_left_is_requested_only_after_the_answer() {
    let start = Instant::now();
    let mut interest = bounded(0);
    subscribe(&mut interest, &channels(&["a"]));
    interest.unwatch(&channel("a"), start);
    assert_eq!(interest.begin_leaving(start), Some(channels(&["a"])));
    interest.watch(&channel("a"));
    assert_eq!(interest.begin_subscribing(), None);
    interest.finish_leaving(&channels(&["a"]), Vec::new());
    assert_eq!(interest.begin_subscribing(), Some(channels(&["a"])));
}

#[test]
fn an_end_that_failed_is_requested_again() {
    let now = Instant::now();
    let mut interest = bounded(0);
    subscribe(&mut interest, &channels(&["a"]));
    interest.unwatch(&channel("a"), now);
    let leaving = interest.begin_leaving(now).expect("a chunk");
    interest.finish_leaving(&[], leaving);
    assert_eq!(leave_all(&mut interest, now), channels(&["a"]));
    assert_eq!(interest.len(), 0);
}

#[test]
fn a_channel_that_is_no_longer_watched_is_not_requested() {
    let start = Instant::now();
    let mut interest = interest();
    interest.watch(&channel("a"));
    interest.unwatch(&channel("a"), start);
    assert_eq!((interest.begin_subscribing(), interest.len()), (None, 0));
    interest.watch(&channel("a"));
    assert_eq!(interest.begin_subscribing(), Some(channels(&["a"])));
}

#[test]
fn few_chunks_are_under_way_and_the_next_one_goes_when_one_is_answered() {
    let mut interest = interest();
    for name in numbered(5 * CHUNK) {
        interest.watch(&name);
    }
    let mut chunks: Vec<_> = std::iter::from_fn(|| interest.begin_subscribing()).collect();
    assert_eq!(chunks.len(), MAX_CHUNKS);
    assert!(chunks.iter().all(|chunk| chunk.len() == CHUNK));
    let answered = chunks.pop().expect("a chunk");
    interest.finish_subscribing(answered, Vec::new(), false);
    assert!(interest.begin_subscribing().is_some());
    assert_eq!(interest.begin_subscribing(), None);
}

#[test]
fn a_chunk_that_fails_is_tried_again_and_what_was_confirmed_stays() {
    let mut interest = interest();
    for name in ["a", "b", "c"] {
        interest.watch(&channel(name));
    }
    interest.begin_subscribing().expect("a chunk");
    let watched = interest.finish_subscribing(channels(&["a", "c"]), channels(&["b"]), false);
    assert_eq!(watched, channels(&["a", "c"]));
    assert_eq!(interest.begin_subscribing(), Some(channels(&["b"])));
    assert!(interest.is_confirmed(&channel("a")) && interest.is_confirmed(&channel("c")));
}

#[test]
fn a_channel_that_fails_stays_as_urgent_as_it_was() {
    let mut interest = interest();
    subscribe(&mut interest, &channels(&["a", "b"]));
    interest.lose_all(|name| *name == channel("b"));
    let requested = interest.begin_subscribing().expect("a chunk");
    interest.finish_subscribing(Vec::new(), requested, false);
    assert_eq!(interest.begin_subscribing(), Some(channels(&["b", "a"])));
}

#[test]
fn chunks_that_are_late_become_smaller_and_grow_again() {
    let mut interest = interest();
    for name in numbered(4 * CHUNK) {
        interest.watch(&name);
    }
    let late = interest.begin_subscribing().expect("a chunk");
    interest.finish_subscribing(Vec::new(), late, true);
    let smaller = interest.begin_subscribing().expect("a chunk");
    assert_eq!(smaller.len(), CHUNK / 2);
    interest.finish_subscribing(smaller, Vec::new(), false);
    assert_eq!(
        interest.begin_subscribing().map(|chunk| chunk.len()),
        Some(CHUNK)
    );
}

#[test]
fn a_lost_connection_queues_every_channel_again_by_urgency() {
    let mut interest = interest();
    subscribe(&mut interest, &numbered(30));
    let now = Instant::now();
    for number in 0..10 {
        interest.unwatch(&channel(&number.to_string()), now);
    }
    interest.lose_all(|channel| channel.ends_with('7'));
    assert!(!interest.is_confirmed(&channel("1")));
    assert_eq!(interest.len(), 30);
    let order = interest.begin_subscribing().expect("a chunk");
    assert_eq!(order.len(), 30);
    assert!(order[..2].iter().all(|channel| channel.ends_with('7')));
    let is_lingering = |channel: &Channel| channel.len() == 1;
    assert!(!order[..20].iter().any(is_lingering), "{order:?}");
    assert!(order[20..].iter().all(is_lingering), "{order:?}");
}

#[test]
fn clients_that_subscribe_and_leave_while_redis_is_away_leave_nothing_behind() {
    let now = Instant::now();
    let mut interest = interest();
    for name in numbered(3 * CHUNK) {
        interest.watch(&name);
        interest.unwatch(&name, now);
    }
    assert_eq!((interest.len(), interest.queue.len()), (0, 0));
}

#[test]
fn a_late_subscription_that_nobody_waits_for_any_more_is_ended() {
    let now = Instant::now();
    let mut interest = interest();
    interest.watch(&channel("a"));
    let requested = interest.begin_subscribing().expect("a chunk");
    interest.unwatch(&channel("a"), now);
    // Redis may still carry it out.
    interest.finish_subscribing(Vec::new(), requested, true);
    assert_eq!(interest.lingering(), 0);
    assert_eq!(leave_all(&mut interest, now), channels(&["a"]));
    assert_eq!((interest.len(), interest.begin_subscribing()), (0, None));
}

#[test]
fn a_late_subscription_that_is_given_up_before_it_is_requested_again_is_ended() {
    let now = Instant::now();
    let mut interest = interest();
    interest.watch(&channel("a"));
    let requested = interest.begin_subscribing().expect("a chunk");
    interest.finish_subscribing(Vec::new(), requested, true);
    interest.unwatch(&channel("a"), now);
    assert_eq!(interest.begin_subscribing(), None);
    assert_eq!(interest.begin_leaving(now), Some(channels(&["a"])));
    interest.watch(&channel("a"));
    interest.finish_leaving(&channels(&["a"]), Vec::new());
    assert_eq!(interest.begin_subscribing(), Some(channels(&["a"])));
}

#[test]
fn a_late_subscription_is_gone_with_its_connection() {
    let now = Instant::now();
    let mut interest = interest();
    interest.watch(&channel("a"));
    let requested = interest.begin_subscribing().expect("a chunk");
    interest.finish_subscribing(Vec::new(), requested, true);
    interest.lose_all(|_| false);
    interest.unwatch(&channel("a"), now);
    assert_eq!((interest.begin_leaving(now), interest.len()), (None, 0));
}

#[test]
fn a_subscription_that_was_refused_need_not_be_ended() {
    let now = Instant::now();
    let mut interest = interest();
    interest.watch(&channel("a"));
    let requested = interest.begin_subscribing().expect("a chunk");
    interest.unwatch(&channel("a"), now);
    interest.finish_subscribing(Vec::new(), requested, false);
    assert_eq!((interest.begin_leaving(now), interest.len()), (None, 0));
}

#[test]
fn after_a_flood_of_channels_its_memory_is_returned() {
    let now = Instant::now();
    let mut interest = bounded(0);
    let flood = numbered(20 * CHUNK);
    subscribe(&mut interest, &flood);
    for channel in &flood[10..] {
        interest.unwatch(channel, now);
    }
    leave_all(&mut interest, now);
    interest.shrink();
    assert_eq!(interest.len(), 10);
    let capacity = interest.channels.capacity();
    assert!(capacity < 2000, "{capacity}");
}
