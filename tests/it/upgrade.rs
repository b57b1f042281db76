//! Upgrades: the data that an earlier release left in Redis is read and continued.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::keys;
use tests::browser::BrowserEvent;
use tests::eventually::eventually;
use tests::repository;
use tests::stack::{Plan, Stack};
use tests::upgrade::{answers, keeps, oxygen, with_ordered_ties};

/// Recorded by `record-redis` from the releases of these commits. The first one drops fields that it does not know when it writes
/// an object again. The second one is the last with one gas alarm per device.
const BEFORE: [&str; 2] = ["4f11f68", ONE_GAS_ALARM];
const ONE_GAS_ALARM: &str = "e00dc9d";
/// What was recorded grows older, and must not be trimmed for its age.
const KEEP_EVERYTHING: &str = "--history-age=36500d --log-age=36500d";
/// The year 2286, in milliseconds.
const IN_THE_FUTURE: i64 = 10_000_000_000_000;

fn plan_after_upgrade(before: &str) -> Plan {
    let fixtures = repository::root().join("tests/fixtures/redis");
    Plan::default()
        .redis_contents(fixtures.join(format!("{before}.aof")))
        .ingest_flags(KEEP_EVERYTHING)
}

async fn stack_after_upgrade(before: &str) -> Result<Stack> {
    plan_after_upgrade(before).start().await
}

#[tokio::test]
async fn the_gateway_answers_what_the_release_before_answered() -> Result<()> {
    for before in BEFORE {
        let stack = stack_after_upgrade(before).await?;
        let recorded = recorded(before)?;
        let recorded = recorded.as_object().context("an object")?;
        let present = answers(&stack).await?;
        for (question, answer) in recorded {
            ensure!(
                keeps(&present[question], &with_ordered_ties(answer.clone())),
                "{question}: {before} answered {answer}, now it is {}",
                present[question]
            );
        }
        stack.pass()?;
    }
    Ok(())
}

/// The answers of the gateway of that release.
fn recorded(before: &str) -> Result<Value> {
    let file = format!("tests/fixtures/redis/{before}.json");
    let recorded = std::fs::read_to_string(repository::root().join(file))?;
    Ok(serde_json::from_str(&recorded)?)
}

#[tokio::test]
async fn detectors_continue_where_the_release_before_left_them() -> Result<()> {
    for before in BEFORE {
        detectors_continue_after(before).await?;
    }
    Ok(())
}

async fn detectors_continue_after(before: &str) -> Result<()> {
    let stack = stack_after_upgrade(before).await?;
    let open_before = open_alarm(&stack, "OTSM-A1").await?;
    let browser = stack.browser().await?;
    browser.of_another_release();
    let joined = browser.subscribe("OTSM-A1").await?;
    let seq = joined["seq"].as_u64().context("a seq")?;

    // The open alarm is continued under its id, and events are numbered on without a gap. A timer may have one before the message:
    // the deadlines of the recording are in the past.
    stack.device("OTSM-A1").send(600).await?;
    let change = browser
        .wait_for("the escalation", |seen| {
            seen.is_of("device:alerts:changed", "OTSM-A1")
                && seen.body["alerts"][0]["change"] == "escalated"
        })
        .await?
        .body;
    let reached = change["seq"].as_u64().context("a seq")?;
    let numbers: BTreeSet<u64> = browser
        .seen()
        .iter()
        .filter(|seen| seen.what == "event" && seen.body["deviceId"] == "OTSM-A1")
        .filter_map(BrowserEvent::seq)
        .filter(|number| (seq + 1..=reached).contains(number))
        .collect();
    ensure!(
        numbers.into_iter().eq(seq + 1..=reached),
        "{:?}",
        browser.seen()
    );
    assert_eq!(change["alerts"][0]["id"], open_before["id"]);

    // An alarm that was latched and not acknowledged clears with its acknowledgement.
    let latched = open_alarm(&stack, "OTSM-LATCHED").await?;
    let id = latched["id"].as_str().context("an id")?;
    // Until the detector has an event of the new epoch, one that comes in between makes what was seen incomparable.
    eventually("the acknowledgement covers the alarm", async || {
        let answer = stack.acknowledge("OTSM-LATCHED", id, "{}").await?;
        let answer = answer.expect(200)?;
        ensure!(answer["escalated"] != true, "{answer}");
        Ok(())
    })
    .await?;
    stack.device("OTSM-LATCHED").send(11).await?;
    eventually("the latched alarm is cleared", async || {
        let alerts = stack.alerts("OTSM-LATCHED").await?;
        let state = &alerts[0]["state"];
        ensure!(state == "cleared", "{state}");
        Ok(())
    })
    .await?;

    // A detector that was offline is online again, and so is a retired one.
    for serial in ["OTSM-OFFLINE", "OTSM-RETIRED"] {
        stack.device(serial).send(7).await?;
        let latest = stack.shows(serial, 7).await?;
        assert_eq!(latest["alarm_status"], "NORMAL", "{serial}");
    }
    // The retired one was at seq 2. Clients have seen that, so it continues above.
    let answer = browser.subscribe("OTSM-RETIRED").await?;
    let seq = answer["seq"].as_u64().context("a seq")?;
    ensure!(seq > 2, "{answer}");
    let log = stack.get("/alarm-logs?limit=1000").await?.expect(200)?;
    ensure!(!log.to_string().contains("state_lost"), "{log}");
    stack.pass()
}

#[tokio::test]
async fn events_stored_without_more_are_sent_with_it() -> Result<()> {
    const SERIAL: &str = "OTSM-ESCALATED";
    // Without ingest: it would look at the deadline of the recording and publish one more event, in the epoch of the new Redis.
    let stack = plan_after_upgrade(ONE_GAS_ALARM).ingests(0).start().await?;
    let browser = stack.browser().await?;
    browser.of_another_release();
    let joined = browser.subscribe(SERIAL).await?;
    let seq = joined["seq"].as_u64().context("a seq")?;

    let received = async |epoch: &Value, since: u64| {
        let from = browser.seen_count();
        let answer = browser.subscribe_since(SERIAL, epoch, since).await?;
        let seen = browser.seen();
        let events = seen[from..].iter().filter(|seen| seen.what == "event");
        let brief = events.map(|seen| {
            let more = if seen.body["more"] == true { " +" } else { "" };
            format!("{}{more}", seen.name)
        });
        anyhow::Ok((answer, brief.collect::<Vec<_>>()))
    };
    let (answer, replayed) = received(&joined["epoch"], seq - 1).await?;
    assert_eq!(answer["recovered"], true, "{answer} after {joined}");
    let whole = [
        "device:data +",
        "device:alerts +",
        "device:alerts:changed",
        // Repeated as stale: the recording is old.
        "device:data",
    ];
    assert_eq!(replayed, whole);

    let (answer, with_gap) = received(&"000000000000".into(), 0).await?;
    assert_eq!(answer["recovered"], false, "{answer}");
    let (snapshot, changes) = (
        ["device:data +", "device:alerts"],
        "device:alerts:changed +",
    );
    ensure!(
        with_gap.ends_with(&snapshot.map(str::to_owned)),
        "{with_gap:?}"
    );
    let changes = with_gap.iter().filter(|name| *name == changes).count();
    ensure!(changes > 0 && changes + 2 == with_gap.len(), "{with_gap:?}");
    stack.pass()
}

/// The open alarms of a device: id, type and state, oldest first.
async fn open_alarms(stack: &Stack, serial: &str) -> Result<Vec<[String; 3]>> {
    let alerts = stack.alerts(serial).await?;
    let mut open: Vec<Value> = alerts
        .into_iter()
        .filter(|alert| alert["state"] != "cleared")
        .collect();
    open.sort_by_key(|alert| alert["timestamp"].to_string());
    let text = |alert: &Value, field: &str| alert[field].as_str().unwrap_or_default().to_owned();
    let brief = |alert: &Value| ["id", "type", "state"].map(|field| text(alert, field));
    Ok(open.iter().map(brief).collect())
}

/// Waits until these alarms are open, by type and state.
async fn has_alarms(stack: &Stack, serial: &str, expected: &[[&str; 2]]) -> Result<()> {
    eventually(&format!("the alarms of {serial}"), async || {
        let open = open_alarms(stack, serial).await?;
        let mut brief: Vec<[&str; 2]> = open
            .iter()
            .map(|[_, kind, state]| [kind.as_str(), state.as_str()])
            .collect();
        brief.sort_unstable();
        ensure!(brief == expected, "{open:?}, not {expected:?}");
        Ok(())
    })
    .await
}

/// What a reading does to the alarm that the release before raised, which goes on under its id: type and state.
type Continued = (&'static str, &'static str, [&'static str; 2]);

#[tokio::test]
async fn alarms_of_one_kind_for_both_sides_take_the_side_of_their_level() -> Result<()> {
    const CONTINUED: [Continued; 7] = [
        ("OTSM-PEAK", "10", ["alarm_level_3", "returned"]),
        ("OTSM-DELAY", "10", ["alarm_level_2", "returned"]),
        ("OTSM-LATCHED", "10", ["alarm_level_2", "latched"]),
        ("OTSM-RANGE", "1500", ["over_range", "latched"]),
        ("OTSM-BOTH-SIDES", "20.9", ["alarm_level_3", "latched"]),
        ("OTSM-RICH", "20.9", ["alarm_level_2", "latched"]),
        ("OTSM-THIN", "20.9", ["alarm_level_1", "latched"]),
    ];
    let stack = stack_after_upgrade(ONE_GAS_ALARM).await?;
    for (serial, value, expected) in CONTINUED {
        let before = open_alarms(&stack, serial).await?;
        let device = stack.device(serial);
        let is_oxygen = value == "20.9";
        let payload = if is_oxygen {
            oxygen(&device, value)
        } else {
            device.old(value)
        };
        device.publish(&payload).await?;
        eventually(&format!("the alarm of {serial} goes on"), async || {
            let open = open_alarms(&stack, serial).await?;
            let [_, kind, state] = open
                .iter()
                .find(|[id, kind, _]| kind == expected[0] && before.iter().any(|b| b[0] == *id))
                .with_context(|| format!("{open:?}, before {before:?}"))?;
            ensure!([kind.as_str(), state.as_str()] == expected, "{open:?}");
            Ok(())
        })
        .await?;
    }

    // The other side is an alarm of its own, whatever the old one waits for.
    for (serial, value, expected) in [
        (
            "OTSM-BOTH-LATCHED",
            "10",
            [
                ["alarm_level_1", "unacknowledged"],
                ["alarm_level_3", "latched"],
            ],
        ),
        (
            "OTSM-RICH",
            "10",
            [
                ["alarm_level_1", "unacknowledged"],
                ["alarm_level_2", "latched"],
            ],
        ),
        (
            "OTSM-THIN",
            "24",
            [
                ["alarm_level_1", "latched"],
                ["alarm_level_2", "unacknowledged"],
            ],
        ),
    ] {
        let device = stack.device(serial);
        device.publish(&oxygen(&device, value)).await?;
        has_alarms(&stack, serial, &expected).await?;
    }
    // Everything ends.
    for serial in [
        "OTSM-BOTH-SIDES",
        "OTSM-BOTH-LATCHED",
        "OTSM-RICH",
        "OTSM-THIN",
    ] {
        for [id, ..] in open_alarms(&stack, serial).await? {
            let answer = stack.acknowledge(serial, &id, "{}").await?;
            answer.expect(200)?;
        }
        let device = stack.device(serial);
        device.publish(&oxygen(&device, "20.9")).await?;
        has_alarms(&stack, serial, &[]).await?;
    }
    stack.pass()
}

#[tokio::test]
async fn beside_an_ingest_of_an_earlier_release_new_kinds_of_alarms_are_held_back() -> Result<()> {
    let mut stack = Stack::start().await?;
    let mut redis = stack.redis_connection().await?;
    // The report of a replica that writes no version of its rules. Its time is ahead, so it does not expire.
    let report = redis::cmd("ZADD")
        .arg(keys::INGEST_MEMBERS)
        .arg(IN_THE_FUTURE)
        .arg("earlier")
        .to_owned();
    stack.ingests[0].process.terminate().await?;
    report.exec_async(&mut redis).await?;
    stack.ingests[0].process.restart()?;
    stack.ingests[0].ready().await?;

    let below = stack.device("OTSM-BELOW");
    below.send(10).await?;
    below.send(-9999).await?;
    let latest = stack.shows("OTSM-BELOW", -9999).await?;
    assert_eq!(latest["alarm_status"], "ALARM");
    assert_eq!(latest["data_quality"], "uncertain");
    assert_eq!(stack.alerts("OTSM-BELOW").await?, Vec::<Value>::new());

    let sides = stack.device("OTSM-SIDES");
    sides.publish(&oxygen(&sides, "24")).await?;
    sides.publish(&oxygen(&sides, "10")).await?;
    let latest = stack.shows("OTSM-SIDES", 10).await?;
    assert_eq!(latest["alarm_status"], "ALARM");
    has_alarms(&stack, "OTSM-SIDES", &[["alarm_level_2", "latched"]]).await?;

    let peak = stack.device("OTSM-PEAK");
    peak.send(1200).await?;
    peak.send(10).await?;
    stack.shows("OTSM-PEAK", 10).await?;
    has_alarms(&stack, "OTSM-PEAK", &[["alarm_level_3", "unacknowledged"]]).await?;

    redis::cmd("ZREM")
        .arg(keys::INGEST_MEMBERS)
        .arg("earlier")
        .exec_async(&mut redis)
        .await?;
    // The replica looks once a second.
    eventually("the new kinds of alarms appear", async || {
        below.send(-9999).await?;
        sides.publish(&oxygen(&sides, "10")).await?;
        peak.send(10).await?;
        let open = open_alarms(&stack, "OTSM-BELOW").await?;
        ensure!(
            open.iter().any(|[_, kind, _]| kind == "under_range"),
            "{open:?}"
        );
        Ok(())
    })
    .await?;
    let both = [
        ["alarm_level_1", "unacknowledged"],
        ["alarm_level_2", "latched"],
    ];
    has_alarms(&stack, "OTSM-SIDES", &both).await?;
    has_alarms(&stack, "OTSM-PEAK", &[["alarm_level_3", "returned"]]).await?;
    stack.pass()
}

async fn open_alarm(stack: &Stack, serial: &str) -> Result<Value> {
    let alerts = stack.alerts(serial).await?;
    let open = alerts.into_iter().find(|alert| alert["state"] != "cleared");
    open.with_context(|| format!("{serial} has no open alarm"))
}
