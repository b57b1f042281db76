use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event_names::{DEVICE_ALERTS, DEVICE_ALERTS_CHANGED};

const LIMITS: OutboxLimits = OutboxLimits {
    packets: 8,
    bytes: 4096,
    deadline: Duration::from_secs(20),
};

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn payload(body: &Value) -> Arc<RawValue> {
    serde_json::value::to_raw_value(body).unwrap().into()
}

/// Builds the parts of a payload at this position that the outbox could change.
fn at(device: &str, seq: u64) -> Arc<RawValue> {
    payload(&json!({"deviceId": device, "seq": seq}))
}

/// An outbox, and a queue with this much room in place of that of socketioxide.
struct World {
    outbox: Outbox,
    now: Instant,
    room: usize,
    /// The packets that were put into the queue.
    sent: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self::with(LIMITS)
    }

    fn with(limits: OutboxLimits) -> Self {
        Self {
            outbox: Outbox::new(limits),
            now: Instant::now(),
            room: 0,
            sent: Vec::new(),
        }
    }

    fn telemetry(&mut self, name: &str, event: &'static str, seq: u64) -> Result<bool, Overflow> {
        let queue = queue(&mut self.room, &mut self.sent);
        self.outbox
            .push_telemetry(Some(&device(name)), event, &at(name, seq), self.now, queue)
    }

    fn alarms(&mut self, name: &str, events: &[&'static str], seq: u64) -> Result<bool, Overflow> {
        let payload = at(name, seq);
        let packets: Vec<Packet> = events
            .iter()
            .map(|event| Packet::event(event, &payload))
            .collect();
        let queue = queue(&mut self.room, &mut self.sent);
        self.outbox
            .push_alarms(Some(&device(name)), packets, self.now, queue)
    }

    fn ack(&mut self, name: Option<&str>, id: i64) -> Result<bool, Overflow> {
        let body = serde_json::value::to_raw_value(&json!({"ok": true})).unwrap();
        let queue = queue(&mut self.room, &mut self.sent);
        let device = name.map(device);
        self.outbox
            .push_alarms(device.as_ref(), [Packet::reply(id, body)], self.now, queue)
    }

    fn flush(&mut self, room: usize) -> Result<Flushed, Overflow> {
        self.room = room;
        let queue = queue(&mut self.room, &mut self.sent);
        let flushed = self.outbox.flush(self.now, queue);
        self.room = 0;
        flushed
    }

    /// Takes the packets sent since the last call: `event device seq`, and `+skipped` if readings were replaced.
    fn take_sent(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sent)
    }
}

fn queue<'a>(
    room: &'a mut usize,
    sent: &'a mut Vec<String>,
) -> impl FnMut(&Packet) -> SendOutcome + 'a {
    move |packet| {
        if *room == 0 {
            return SendOutcome::Full;
        }
        *room -= 1;
        sent.push(describe(packet));
        SendOutcome::Sent
    }
}

fn describe(packet: &Packet) -> String {
    let name = match packet.kind() {
        PacketKind::Reply(id) => return format!("ack {id}"),
        PacketKind::Event(name) => name,
    };
    let body: Value = serde_json::from_str(packet.payload().get()).unwrap();
    let skipped = body.get("skipped").map(|skipped| format!(" +{skipped}"));
    let device = body["deviceId"].as_str().unwrap();
    format!(
        "{name} {device} {}{}",
        body["seq"],
        skipped.unwrap_or_default()
    )
}

#[test]
fn everything_is_sent_at_once_while_nothing_waits() {
    let mut world = World::new();
    world.room = 9;
    assert_eq!(world.telemetry("A", DEVICE_DATA, 1), Ok(false));
    assert_eq!(
        world.alarms("A", &[DEVICE_DATA, DEVICE_ALERTS, DEVICE_ALERTS_CHANGED], 2),
        Ok(false)
    );
    assert_eq!(world.ack(Some("A"), 7), Ok(false));
    assert_eq!(world.telemetry("A", DEVICE_DATA, 3), Ok(false));
    assert_eq!(
        world.take_sent(),
        [
            "device:data A 1",
            "device:data A 2",
            "device:alerts A 2",
            "device:alerts:changed A 2",
            "ack 7",
            "device:data A 3"
        ]
    );
}

#[test]
fn rows_of_an_ended_subscription_are_dropped_and_nothing_else() {
    let mut world = World::new();
    world.telemetry("A", DEVICE_DATA, 1).unwrap();
    for event in [FLEET_SNAPSHOT, FLEET_CHANGED] {
        let queue = queue(&mut world.room, &mut world.sent);
        let pushed = world
            .outbox
            .push_telemetry(None, event, &at("B", 1), world.now, queue);
        assert_eq!(pushed, Ok(true));
    }
    assert!(world.outbox.has_rows());
    world.outbox.drop_rows();
    assert!(!world.outbox.has_rows());
    world.ack(None, 7).unwrap();
    assert_eq!(world.flush(99), Ok(Flushed::All));
    assert_eq!(world.take_sent(), ["ack 7", "device:data A 1"]);
}

/// Pushes into an outbox whose queue has no room. Compares the packets sent once there is room.
#[track_caller]
fn check(push: impl FnOnce(&mut World) -> Result<bool, Overflow>, expected: &[&str]) {
    let mut world = World::new();
    assert_eq!(push(&mut world), Ok(true));
    assert_eq!(world.take_sent(), Vec::<String>::new());
    assert_eq!(world.flush(99), Ok(Flushed::All));
    assert_eq!(world.take_sent(), expected);
}

#[test]
fn waiting_telemetry_is_the_latest_per_device_and_event_in_the_order_in_which_it_began_to_wait() {
    check(
        |world| {
            world.telemetry("A", DEVICE_DATA, 1)?;
            world.telemetry("B", DEVICE_DATA, 1)?;
            world.telemetry("A", BROADCAST_DATA, 1)?;
            world.telemetry("A", DEVICE_DATA, 2)?;
            world.telemetry("A", DEVICE_DATA, 3)
        },
        &[
            "device:data A 3 +2",
            "device:data B 1",
            "subtronics:data A 1",
        ],
    );
}

#[test]
fn alarms_are_sent_before_the_telemetry_of_other_devices() {
    check(
        |world| {
            world.telemetry("A", DEVICE_DATA, 1)?;
            world.alarms("B", &[DEVICE_DATA, DEVICE_ALERTS, DEVICE_ALERTS_CHANGED], 5)?;
            world.ack(None, 3)
        },
        &[
            "device:data B 5",
            "device:alerts B 5",
            "device:alerts:changed B 5",
            "ack 3",
            "device:data A 1",
        ],
    );
}

#[test]
fn data_of_an_alarm_replaces_older_telemetry() {
    check(
        |world| {
            world.telemetry("A", DEVICE_DATA, 1)?;
            world.telemetry("A", DEVICE_DATA, 2)?;
            world.alarms("A", &[DEVICE_DATA, DEVICE_ALERTS, DEVICE_ALERTS_CHANGED], 3)?;
            world.telemetry("A", DEVICE_DATA, 4)
        },
        &[
            "device:data A 3 +2",
            "device:alerts A 3",
            "device:alerts:changed A 3",
            "device:data A 4",
        ],
    );
}

#[test]
fn an_alarm_without_data_follows_the_telemetry_of_its_device() {
    check(
        |world| {
            world.telemetry("B", DEVICE_DATA, 1)?;
            world.telemetry("A", DEVICE_DATA, 1)?;
            world.telemetry("A", DEVICE_DATA, 2)?;
            world.alarms("A", &[DEVICE_ALERTS_CHANGED], 3)
        },
        &[
            "device:data A 2 +1",
            "device:alerts:changed A 3",
            "device:data B 1",
        ],
    );
}

#[test]
fn a_replay_that_begins_with_changes_follows_the_telemetry_of_its_device() {
    check(
        |world| {
            world.telemetry("A", BROADCAST_DATA, 2)?;
            world.telemetry("A", DEVICE_DATA, 2)?;
            world.alarms("A", &[DEVICE_ALERTS_CHANGED, DEVICE_DATA, DEVICE_ALERTS], 3)
        },
        &[
            "subtronics:data A 2",
            "device:data A 2",
            "device:alerts:changed A 3",
            "device:data A 3",
            "device:alerts A 3",
        ],
    );
}

#[test]
fn a_reply_follows_the_telemetry_of_its_device() {
    check(
        |world| {
            world.telemetry("A", DEVICE_DATA, 2)?;
            world.telemetry("B", DEVICE_DATA, 9)?;
            world.ack(Some("A"), 1)
        },
        &["device:data A 2", "ack 1", "device:data B 9"],
    );
}

#[test]
fn an_alarm_is_sent_although_telemetry_waits() {
    let mut world = World::new();
    assert_eq!(world.telemetry("A", DEVICE_DATA, 1), Ok(true));
    assert_eq!(world.telemetry("B", DEVICE_DATA, 1), Ok(true));
    world.room = 1;
    assert_eq!(
        world.alarms("B", &[DEVICE_DATA, DEVICE_ALERTS_CHANGED], 2),
        Ok(true)
    );
    assert_eq!(world.take_sent(), ["device:data B 2 +1"]);
    assert_eq!(world.flush(1), Ok(Flushed::Some));
    assert_eq!(world.flush(0), Ok(Flushed::Nothing));
    assert_eq!(world.take_sent(), ["device:alerts:changed B 2"]);
}

#[test]
fn replaced_readings_are_counted_once() {
    let mut world = World::new();
    for seq in 1..=4 {
        assert_eq!(world.telemetry("A", DEVICE_DATA, seq), Ok(true));
    }
    assert_eq!(
        world.alarms("A", &[DEVICE_DATA, DEVICE_ALERTS_CHANGED], 5),
        Ok(true)
    );
    assert_eq!(world.outbox.take_counts().conflated, 4);
    assert_eq!(world.outbox.take_counts().conflated, 0);
}

#[test]
fn too_many_packets_exceed_the_bound() {
    let mut world = World::new();
    for id in 0..7 {
        assert_eq!(world.ack(None, id), Ok(true));
    }
    assert_eq!(world.telemetry("A", DEVICE_DATA, 1), Ok(true));
    // This one replaces a packet that waits.
    assert_eq!(world.telemetry("A", DEVICE_DATA, 2), Ok(true));
    assert_eq!(world.telemetry("B", DEVICE_DATA, 1), Err(Overflow::Packets));
    // The client must not get anything that follows the gap.
    assert_eq!(world.alarms("A", &[DEVICE_ALERTS_CHANGED], 3), Ok(false));
    assert_eq!(world.flush(99), Ok(Flushed::All));
    assert_eq!(world.take_sent(), Vec::<String>::new());
}

#[test]
fn too_many_bytes_of_telemetry_alone_exceed_the_bound() {
    let mut world = World::new();
    let long = payload(&json!({"deviceId": "A", "text": "x".repeat(5000)}));
    let pushed = world.outbox.push_telemetry(
        Some(&device("A")),
        DEVICE_DATA,
        &long,
        Instant::now(),
        |_| SendOutcome::Full,
    );
    assert_eq!(pushed, Err(Overflow::Bytes));
}

#[test]
fn an_alarm_that_waits_too_long_exceeds_the_bound_and_telemetry_does_not() {
    let mut world = World::new();
    assert_eq!(world.telemetry("A", DEVICE_DATA, 1), Ok(true));
    world.now += Duration::from_secs(21);
    assert_eq!(world.flush(0), Ok(Flushed::Nothing));
    assert_eq!(world.alarms("B", &[DEVICE_ALERTS_CHANGED], 1), Ok(true));
    world.now += Duration::from_secs(20);
    assert_eq!(world.flush(0), Ok(Flushed::Nothing));
    world.now += Duration::from_millis(1);
    assert_eq!(world.flush(0), Err(Overflow::Deadline));
    let waited = world.outbox.take_counts().longest_alarm_wait;
    assert_eq!(
        waited,
        Some(Duration::from_millis(20_001)),
        "the wait of a dropped alarm counts"
    );
}

#[test]
fn the_longest_wait_of_the_sent_alarms_is_counted_once() {
    let mut world = World::new();
    assert_eq!(world.outbox.take_counts().longest_alarm_wait, None);
    world.room = 1;
    assert_eq!(world.alarms("A", &[DEVICE_ALERTS_CHANGED], 1), Ok(false));
    assert_eq!(
        world.outbox.take_counts().longest_alarm_wait,
        Some(Duration::ZERO)
    );
    assert_eq!(world.alarms("A", &[DEVICE_ALERTS_CHANGED], 2), Ok(true));
    world.now += Duration::from_secs(2);
    assert_eq!(world.alarms("B", &[DEVICE_ALERTS_CHANGED], 1), Ok(true));
    assert_eq!(world.outbox.take_counts().longest_alarm_wait, None);
    world.now += Duration::from_secs(1);
    assert_eq!(world.flush(usize::MAX), Ok(Flushed::All));
    assert_eq!(
        world.outbox.take_counts().longest_alarm_wait,
        Some(Duration::from_secs(3))
    );
    assert_eq!(world.outbox.take_counts().longest_alarm_wait, None);
}

#[test]
fn after_a_closed_connection_nothing_waits_any_more() {
    let mut world = World::new();
    assert_eq!(world.alarms("A", &[DEVICE_ALERTS_CHANGED], 1), Ok(true));
    let flushed = world.outbox.flush(world.now, |_| SendOutcome::Closed);
    assert_eq!(flushed, Ok(Flushed::All));
    assert_eq!(world.telemetry("A", DEVICE_DATA, 2), Ok(false));
    assert!(world.outbox.is_empty());
}

#[test]
fn skipped_is_appended_as_the_last_field_and_other_bytes_stay() {
    let cases = [
        (
            r#"{"a":1.50,"b":{}}"#,
            3,
            r#"{"a":1.50,"b":{},"skipped":3}"#,
        ),
        ("{}", 1, r#"{"skipped":1}"#),
        (r#"{"a":1.50}"#, 0, r#"{"a":1.50}"#),
    ];
    for (bytes, skipped, expected) in cases {
        let payload = RawValue::from_string(bytes.to_owned()).unwrap();
        let packet = Packet {
            kind: PacketKind::Event(DEVICE_DATA),
            payload: payload.into(),
            skipped,
        };
        assert_eq!(packet.payload().get(), expected);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Telemetry(usize),
    Alarm(usize, &'static [&'static str]),
    Ack(Option<usize>),
    /// Number of packets for which the queue has room.
    Room(usize),
}

const NAMES: [&str; 3] = ["A", "B", "C"];

fn step() -> impl Strategy<Value = Step> {
    let shapes = prop::sample::select(vec![
        &[DEVICE_DATA, DEVICE_ALERTS, DEVICE_ALERTS_CHANGED][..],
        &[DEVICE_DATA, DEVICE_ALERTS_CHANGED],
        &[DEVICE_ALERTS_CHANGED],
        &[DEVICE_ALERTS, DEVICE_ALERTS_CHANGED],
        // A snapshot after missed changes, and a replay of two positions.
        &[DEVICE_ALERTS_CHANGED, DEVICE_DATA, DEVICE_ALERTS],
        &[DEVICE_DATA, DEVICE_DATA, DEVICE_ALERTS_CHANGED],
    ]);
    prop_oneof![
        6 => (0..3_usize).prop_map(Step::Telemetry),
        3 => (0..3_usize, shapes).prop_map(|(device, events)| Step::Alarm(device, events)),
        1 => prop::option::of(0..3_usize).prop_map(Step::Ack),
        3 => (0..6_usize).prop_map(Step::Room),
    ]
}

/// One sent packet, parsed from its description.
#[derive(Debug, PartialEq)]
struct SentPacket {
    event: String,
    device: String,
    seq: u64,
    skipped: u64,
}

fn read(line: &str) -> Option<SentPacket> {
    let words: Vec<&str> = line.split(' ').collect();
    let [event, device, seq, rest @ ..] = &words[..] else {
        return None;
    };
    let skipped = rest.first().map_or(0, |word| word[1..].parse().unwrap());
    Some(SentPacket {
        event: (*event).to_owned(),
        device: (*device).to_owned(),
        seq: seq.parse().unwrap(),
        skipped,
    })
}

/// Returns whether the bounds and the internal index are consistent.
fn bounds_hold(outbox: &Outbox, limits: OutboxLimits) -> bool {
    let alarms = outbox.alarms.iter().map(|(packet, _)| packet);
    let telemetry = outbox.telemetry.values().map(|(_, packet)| packet);
    let bytes: usize = alarms.chain(telemetry).map(Packet::size).sum();
    let is_indexed = outbox
        .telemetry
        .iter()
        .all(|(turn, (key, _))| outbox.turns.get(key) == Some(turn));
    outbox.alarms.len() + outbox.telemetry.len() <= limits.packets
        && bytes <= limits.bytes
        && bytes == outbox.bytes
        && is_indexed
        && outbox.turns.len() == outbox.telemetry.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// For any pushed packets and any room in the queue: every alarm is sent completely and in order, or the client is
    /// disconnected; the positions of a device only grow; every reading is sent or counted; the bounds are never exceeded.
    #[test]
    fn alarms_are_complete_and_readings_are_counted(
        steps in prop::collection::vec(step(), 1..120),
        is_broadcast in any::<bool>(),
        packets in 4_usize..40,
        bytes in 1500_usize..12_000,
    ) {
        let limits = OutboxLimits { packets, bytes, ..LIMITS };
        let mut world = World::with(limits);
        let mut seqs = [0_u64; 3];
        // Everything that must be sent, in order.
        let mut complete: Vec<String> = Vec::new();
        let mut readings: HashMap<(String, String), u64> = HashMap::new();
        let mut published = |event: &str, device: &str| {
            *readings.entry((event.to_owned(), device.to_owned())).or_default() += 1;
        };
        let mut acks = 0;
        let mut is_disconnected = false;
        for step in steps {
            let outcome = match step {
                Step::Telemetry(device) => {
                    seqs[device] += 1;
                    let (name, seq) = (NAMES[device], seqs[device]);
                    published(DEVICE_DATA, name);
                    let mut outcome = world.telemetry(name, DEVICE_DATA, seq);
                    if is_broadcast && outcome.is_ok() {
                        published(BROADCAST_DATA, name);
                        outcome = world.telemetry(name, BROADCAST_DATA, seq);
                    }
                    outcome.map(|_| ())
                }
                Step::Alarm(device, shape) => {
                    seqs[device] += 1;
                    let (name, seq) = (NAMES[device], seqs[device]);
                    let mut events = Vec::new();
                    for event in shape {
                        events.push(*event);
                        if *event == DEVICE_DATA && is_broadcast {
                            events.push(BROADCAST_DATA);
                        }
                    }
                    for event in &events {
                        if [DEVICE_DATA, BROADCAST_DATA].contains(event) {
                            published(event, name);
                        }
                        complete.push(format!("{event} {name} {seq}"));
                    }
                    world.alarms(name, &events, seq).map(|_| ())
                }
                Step::Ack(device) => {
                    acks += 1;
                    complete.push(format!("ack {acks}"));
                    world.ack(device.map(|device| NAMES[device]), acks).map(|_| ())
                }
                Step::Room(room) => {
                    let flushed = world.flush(room).map(|_| ());
                    // Some of the next packets can be sent at once.
                    world.room = room / 2;
                    flushed
                }
            };
            prop_assert!(bounds_hold(&world.outbox, limits), "{:?}", world.outbox);
            if outcome.is_err() {
                is_disconnected = true;
                break;
            }
        }
        let before = world.sent.len();
        prop_assert_eq!(world.flush(usize::MAX), Ok(Flushed::All));
        if is_disconnected {
            prop_assert_eq!(world.sent.len(), before, "something was sent after the gap");
        }
        let sent = world.take_sent();

        let packets: Vec<SentPacket> = sent.iter().filter_map(|line| read(line)).collect();
        for name in NAMES {
            let of_device: Vec<&SentPacket> = packets.iter().filter(|packet| packet.device == name).collect();
            prop_assert!(of_device.windows(2).all(|pair| pair[0].seq <= pair[1].seq), "{:?}", of_device);
        }
        // Telemetry is not in `complete`, as it may be replaced. The other packets must be `complete`, or its beginning.
        let bare = |line: &str| line.split(" +").next().unwrap_or_default().to_owned();
        let must: Vec<String> = sent.iter().map(|line| bare(line)).filter(|line| complete.contains(line)).collect();
        prop_assert_eq!(&must[..], &complete[..must.len()]);
        if !is_disconnected {
            prop_assert_eq!(must.len(), complete.len());
            let mut arrived: HashMap<(String, String), u64> = HashMap::new();
            for packet in packets.iter().filter(|packet| [DEVICE_DATA, BROADCAST_DATA].contains(&packet.event.as_str())) {
                *arrived.entry((packet.event.clone(), packet.device.clone())).or_default() += 1 + packet.skipped;
            }
            prop_assert_eq!(arrived, readings);
        }
    }
}
