use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    packets: 8,
    bytes: 4096,
    deadline: Duration::from_secs(20),
};

fn packet(number: i64) -> Packet {
    let payload = serde_json::value::to_raw_value(&number).unwrap();
    Packet {
        address: Address::Ack(number),
        payload: payload.into(),
    }
}

fn number(packet: &Packet) -> i64 {
    match packet.address {
        Address::Ack(number) => number,
        Address::Event(_) => unreachable!("the tests send acknowledgements"),
    }
}

#[test]
fn packet_is_handed_over_at_once_while_nothing_waits() {
    let mut outbox = Outbox::new(LIMITS);
    let waits = outbox.push(packet(1), Instant::now(), |_| Handed::Taken);
    assert_eq!(waits, Ok(false));
}

#[test]
fn nothing_overtakes_a_waiting_packet() {
    let now = Instant::now();
    let mut outbox = Outbox::new(LIMITS);
    assert_eq!(outbox.push(packet(1), now, |_| Handed::Full), Ok(true));
    let waits = outbox.push(packet(2), now, |_| {
        panic!("the second must wait behind the first")
    });
    assert_eq!(waits, Ok(true));
    let mut seen = Vec::new();
    let waits = outbox.flush(now, |packet| {
        seen.push(number(packet));
        Handed::Taken
    });
    assert_eq!((waits, seen), (Ok(false), vec![1, 2]));
}

#[test]
fn too_many_packets_break_the_bound() {
    let now = Instant::now();
    let mut outbox = Outbox::new(LIMITS);
    for n in 0..8 {
        assert_eq!(outbox.push(packet(n), now, |_| Handed::Full), Ok(true));
    }
    assert_eq!(
        outbox.push(packet(8), now, |_| Handed::Full),
        Err(Overflow::Packets)
    );
}

#[test]
fn too_many_bytes_break_the_bound() {
    let mut outbox = Outbox::new(LIMITS);
    let long = serde_json::value::to_raw_value(&"x".repeat(5000)).unwrap();
    let packet = Packet {
        address: Address::Event("device:data"),
        payload: long.into(),
    };
    assert_eq!(
        outbox.push(packet, Instant::now(), |_| Handed::Full),
        Err(Overflow::Bytes)
    );
}

#[test]
fn packet_that_waits_too_long_breaks_the_bound() {
    let start = Instant::now();
    let mut outbox = Outbox::new(LIMITS);
    assert_eq!(outbox.push(packet(1), start, |_| Handed::Full), Ok(true));
    let late = start + Duration::from_secs(21);
    assert_eq!(
        outbox.flush(late, |_| Handed::Full),
        Err(Overflow::Deadline)
    );
}

#[test]
fn closed_connection_takes_nothing_and_keeps_nothing() {
    let now = Instant::now();
    let mut outbox = Outbox::new(LIMITS);
    assert_eq!(outbox.push(packet(1), now, |_| Handed::Full), Ok(true));
    assert_eq!(outbox.flush(now, |_| Handed::Closed), Ok(false));
    assert_eq!(outbox.push(packet(2), now, |_| Handed::Closed), Ok(false));
}

proptest! {
    /// Whatever the queue behind has room for: every packet arrives once and in order, or a bound is broken.
    #[test]
    fn every_packet_arrives_once_and_in_order(rooms in prop::collection::vec(0_usize..4, 1..200)) {
        let now = Instant::now();
        let mut outbox = Outbox::new(Limits { packets: 50, ..LIMITS });
        let mut arrived = Vec::new();
        let mut sent = 0;
        let mut broken = false;
        for room in rooms {
            let mut room = room;
            let mut take = |packet: &Packet| {
                if room == 0 {
                    return Handed::Full;
                }
                room -= 1;
                arrived.push(number(packet));
                Handed::Taken
            };
            broken |= outbox.push(packet(sent), now, &mut take).is_err();
            broken |= outbox.flush(now, &mut take).is_err();
            sent += 1;
            if broken {
                break;
            }
        }
        if !broken {
            outbox.flush(now, |packet| {
                arrived.push(number(packet));
                Handed::Taken
            }).unwrap();
            prop_assert_eq!(arrived, (0..sent).collect::<Vec<_>>());
        }
    }
}
