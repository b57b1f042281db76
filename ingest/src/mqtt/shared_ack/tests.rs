use super::super::ack::Acks;
use super::*;

fn received() -> (Arc<Acks>, AckHandle) {
    let acks = Arc::new(Acks::default());
    let ack = Acks::receive(&acks, 1);
    (acks, ack)
}

#[test]
fn a_message_of_one_part_is_finished_with_it() {
    for parts in [0, 1] {
        let (acks, ack) = received();
        let parts = SharedAck::split(ack, parts);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].is_last());
        parts.into_iter().for_each(SharedAck::done);
        assert!(acks.is_ready());
    }
}

#[test]
fn a_message_is_finished_with_its_last_part() {
    let (acks, ack) = received();
    let mut parts = SharedAck::split(ack, 3);
    let last = parts.pop().expect("three parts");
    assert!(!last.is_last());
    parts.into_iter().for_each(SharedAck::done);
    assert!(!acks.is_ready());
    assert!(last.is_last());
    last.done();
    assert!(acks.is_ready());
}

#[test]
fn a_message_with_a_part_that_was_dropped_is_never_finished() {
    for dropped in 0..3 {
        let (acks, ack) = received();
        let mut parts = SharedAck::split(ack, 3);
        drop(parts.remove(dropped));
        parts.into_iter().for_each(SharedAck::done);
        assert!(!acks.is_ready(), "part {dropped}");
    }
}
