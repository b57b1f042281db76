use std::collections::BTreeSet;
use std::pin::pin;

use serde_json::Value;
use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use shared::position::Position;
use shared::profile::Profile;
use socketioxide::socket::Sid;
use test_support::eventually::LATE;
use tokio::io::AsyncReadExt;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::client::ClientContext;
use crate::client::link::Link;
use crate::clients::Clients;
use crate::metrics::Metrics;
use crate::test_setup;
use crate::websocket::writer::tests::pair;

/// More rows than the kernel takes for a client that reads nothing: some 10 MiB.
const DEVICES: usize = 20_000;
/// Every tenth device has this prefix.
const PREFIX: &str = "B-";
/// The id of the second request.
const ACK: i64 = 7;

fn serial(number: usize) -> String {
    let prefix = if number.is_multiple_of(10) {
        PREFIX
    } else {
        "A-"
    };
    format!("{prefix}{number}")
}

/// Rows that nobody reads from Redis.
fn filled() -> Feeds {
    let config = test_setup::config("127.0.0.1:1", &[]);
    let finish = CancellationToken::new();
    finish.cancel();
    let store = test_setup::store(&config);
    let feeds = Feeds::start(&store, false, &Lifecycle::new(), &finish);
    let at = Time::from_millis(1_769_600_232_000);
    for number in 0..DEVICES {
        let serial = serial(number);
        let reading = test_setup::reading(&serial, 120);
        let state = test_setup::state(reading, Position::default(), at);
        let row = Row::of(&state, &Profile::default(), Some(at), at).expect("a reading");
        let device = serial.parse().expect("a serial");
        feeds.tables().fleet.set(&device, row);
    }
    feeds
}

fn fleet(filter: &str) -> Feed {
    let filter = serde_json::from_str(filter).expect("a filter");
    Feed::Fleet {
        filter: FleetFilter::of(filter).expect("a filter"),
        interval: Duration::from_mins(1),
    }
}

/// Takes the next whole text out of the frames of a server, if it is there.
fn take_text(bytes: &mut Vec<u8>) -> Option<String> {
    let length = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?.iter();
        Some(digits.fold(0, |length, byte| (length << 8) | usize::from(*byte)))
    };
    let (start, length) = match *bytes.get(1)? {
        126 => (4, length(2, 4)?),
        127 => (10, length(2, 10)?),
        short => (2, usize::from(short)),
    };
    let end = start + length;
    let text = String::from_utf8(bytes.get(start..end)?.to_vec()).expect("a text");
    bytes.drain(..end);
    Some(text)
}

/// A client that reads slowly asks for something else while it is being sent a list: the new list is whole, and nothing of the one before
/// comes behind its beginning.
#[tokio::test]
async fn a_list_that_is_replaced_while_it_is_sent_is_followed_by_the_new_one_alone() {
    let feeds = filled();
    let _wants = feeds.want_rows(Duration::from_mins(1));
    feeds.tables().has_rows = true;
    let metrics = Metrics::new(&Meters::local("gateway").expect("meters"));
    let config = test_setup::config("127.0.0.1:1", &["--coalesce=0s"]);
    let clients = Clients::new(ClientContext::new(&config, Arc::clone(&metrics.client)));
    let (writer, mut peer) = pair().await;
    let writer = Arc::new(writer);
    let link = Link::WebSocket(Arc::clone(&writer));
    let client = clients.create(Sid::new(), link, test_setup::anyone());

    let mut first_ack = Some(1);
    {
        let mut first = pin!(serve(&feeds, &client, fleet("{}"), &mut first_ack));
        while !writer.has_unsent() {
            tokio::select! {
                biased;
                () = &mut first => unreachable!("a subscription ends with its client"),
                () = yield_now() => {}
            }
        }
    }
    assert_eq!(first_ack, Some(1), "the kernel took the whole list");
    client.drop_rows();

    let mut second_ack = Some(ACK);
    let filter = format!(r#"{{"prefix":"{PREFIX}"}}"#);
    let second = serve(&feeds, &client, fleet(&filter), &mut second_ack);
    let pump = async {
        loop {
            writer.flush();
            client.flush();
            yield_now().await;
        }
    };
    let reading = async {
        let (mut bytes, mut buffer, mut texts) = (Vec::new(), vec![0; 65_536], Vec::new());
        loop {
            let read = peer
                .read(&mut buffer)
                .await
                .expect("the connection is open");
            bytes.extend_from_slice(&buffer[..read]);
            while let Some(text) = take_text(&mut bytes) {
                let is_answer = text.starts_with(&format!("43{ACK}"));
                texts.push(text);
                if is_answer {
                    return texts;
                }
            }
        }
    };
    let texts = tokio::time::timeout(LATE, async {
        tokio::select! {
            () = second => unreachable!("a subscription ends with its client"),
            () = pump => unreachable!(),
            texts = reading => texts,
        }
    });
    let texts = texts.await.expect("the second list is whole in time");
    let events: Vec<Value> = texts
        .iter()
        .filter_map(|text| serde_json::from_str(text.strip_prefix("42")?).ok())
        .collect();
    assert!(events.iter().all(|event| event[0] == FLEET_SNAPSHOT));
    let begins: Vec<usize> = (0..events.len())
        .filter(|index| events[*index][1]["first"] == true)
        .collect();
    let [0, second] = begins[..] else {
        panic!("lists begin at {begins:?}");
    };
    let (before, new) = events.split_at(second);
    assert!(before.iter().all(|event| event[1]["more"] == true));
    let (last, parts) = new.split_last().expect("a list");
    assert!(parts.iter().all(|event| event[1]["more"] == true));
    assert_eq!(last[1]["more"], false);
    let rows = new
        .iter()
        .filter_map(|event| event[1]["devices"].as_array());
    let serials: Vec<&str> = rows
        .flatten()
        .filter_map(|row| row["deviceId"].as_str())
        .collect();
    let expected: BTreeSet<String> = (0..DEVICES).step_by(10).map(serial).collect();
    assert_eq!(serials.len(), expected.len());
    assert!(serials.iter().all(|serial| expected.contains(*serial)));
    let answer = texts.last().expect("an answer");
    assert!(answer.contains(r#""ok":true"#), "{answer}");
}
