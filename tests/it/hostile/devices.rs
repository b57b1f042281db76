//! Detectors that flood the device list, forge serials and names, or flap to push out the alarm log.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shared::keys::{ADMITTED, DEAD_LETTERS, PartitionKeys};
use shared::visible_text::is_hidden;
use tests::device::TOPIC;
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};

/// The well-behaved detector.
const NEIGHBOUR: &str = "OTSM-0001";

async fn dead_letters(stack: &Stack) -> Result<Vec<HashMap<String, String>>> {
    let mut redis = stack.redis_connection().await?;
    let entries: Vec<(String, HashMap<String, String>)> = redis::cmd("XRANGE")
        .arg(DEAD_LETTERS)
        .arg("-")
        .arg("+")
        .query_async(&mut redis)
        .await?;
    Ok(entries.into_iter().map(|(_, fields)| fields).collect())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_flood_of_serials_stops_at_the_limit_and_gas_at_a_new_detector_is_announced() -> Result<()>
{
    let flags = "--max-devices=12 --alarm-reserve=2 --admit=OTSM-*";
    let stack = Plan::default()
        .ingests(2)
        .ingest_flags(flags)
        .start()
        .await?;
    let browser = stack.browser().await?;
    stack.device(NEIGHBOUR).send(1).await?;
    stack.shows(NEIGHBOUR, 1).await?;
    browser.subscribe(NEIGHBOUR).await?;

    for number in 0..40 {
        stack.device(&format!("SPAM-{number}")).send(1200).await?;
        stack.device(&format!("OTSM-1{number:03}")).send(1).await?;
    }
    eventually("every message of the flood is decided", async || {
        let letters = dead_letters(&stack).await?;
        let of = |reason: &str| {
            letters
                .iter()
                .filter(|letter| letter["reason"] == reason)
                .count()
        };
        let (unwanted, too_many) = (of("not_admitted"), of("too_many_devices"));
        ensure!(
            (unwanted, too_many) == (40, 29),
            "{unwanted} and {too_many}"
        );
        Ok(())
    })
    .await?;
    let list = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(list["count"], 12, "{list}");

    // Everybody is told which new detectors are watched.
    let health = stack.get("/health").await?.expect(200)?;
    everybody_says(&stack, "danger").await?;
    browser
        .wait_for("the status", |event| {
            event.name == "system:status" && event.body.to_string().contains("danger")
        })
        .await?;
    eventually("the health is no better", async || {
        let health = stack.get("/health").await?.expect(200)?;
        ensure!(health["status"] == "degraded", "{health}");
        Ok(())
    })
    .await?;
    assert_eq!(health["mqtt_connected"], true, "{health}");

    // A new detector with gas has a place in the reserve, which ends too.
    for number in 0..4 {
        stack
            .device(&format!("OTSM-2{number:03}"))
            .send(1200)
            .await?;
    }
    eventually("the reserve is used", async || {
        let list = stack.get("/api/devices").await?.expect(200)?;
        ensure!(list["count"] == 14, "{list}");
        let letters = dead_letters(&stack).await?;
        ensure!(letters.len() == 71, "{} dead letters", letters.len());
        Ok(())
    })
    .await?;

    everybody_says(&stack, "--alarm-reserve are used up").await?;
    browser
        .wait_for("the status", |event| {
            event.name == "system:status" && event.body.to_string().contains("not even in alarm")
        })
        .await?;
    // Nobody watches the other two, so an operator must learn their names.
    let letters = dead_letters(&stack).await?;
    let refused: HashSet<&str> = letters.iter().filter_map(serial_in_detail).collect();
    let in_danger = (0..4).map(|number| format!("OTSM-2{number:03}"));
    let in_danger: Vec<String> = in_danger
        .filter(|serial| refused.contains(&**serial))
        .collect();
    assert_eq!(in_danger.len(), 2, "{refused:?}");
    assert!(refused.contains("SPAM-39"), "{refused:?}");
    eventually("each of them is logged", async || {
        let errors = errors(&stack);
        for serial in &in_danger {
            let of_it = errors.iter().filter(|line| line["device.id"] == **serial);
            ensure!(of_it.count() == 1, "{serial}: {errors:?}");
        }
        let used_up = errors
            .iter()
            .find(|line| text(line, "message").contains("are used up:"));
        ensure!(
            used_up.is_some_and(|line| !text(line, "device.id").is_empty()),
            "{errors:?}"
        );
        Ok(())
    })
    .await?;

    // The neighbour is not affected.
    let from = browser.seen_count();
    stack.device(NEIGHBOUR).send(300).await?;
    browser
        .event_after(from, "device:alerts:changed", NEIGHBOUR)
        .await?;
    stack.pass()
}

/// Waits until both services say this in `/readyz`.
async fn everybody_says(stack: &Stack, words: &str) -> Result<()> {
    eventually(&format!("both services say `{words}`"), async || {
        for service in [&stack.ingests[0], &stack.ingests[1], &stack.gateways[0]] {
            let body = service.get("/readyz").await?.expect(200)?;
            ensure!(body["status"] == "degraded", "{body}");
            ensure!(body.to_string().contains(words), "{body}");
        }
        Ok(())
    })
    .await
}

/// Returns the serial that the detail of a dead letter names.
fn serial_in_detail(letter: &HashMap<String, String>) -> Option<&str> {
    let (_, serial) = letter["detail"].rsplit_once("it is from ")?;
    Some(serial)
}

/// Returns the log lines of both ingests at level ERROR.
fn errors(stack: &Stack) -> Vec<Value> {
    let outputs = stack.ingests.iter().map(|ingest| ingest.process.output());
    let outputs: Vec<String> = outputs.collect();
    let lines = outputs.iter().flat_map(|output| output.lines());
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["level"] == "ERROR").collect()
}

#[tokio::test]
async fn a_places_key_of_the_wrong_type_affects_unknown_detectors_alone() -> Result<()> {
    let stack = Plan::default().start().await?;
    let mut redis = stack.redis_connection().await?;
    let browser = stack.browser().await?;
    stack.device(NEIGHBOUR).send(1).await?;
    stack.shows(NEIGHBOUR, 1).await?;
    browser.subscribe(NEIGHBOUR).await?;

    let mut command = redis::cmd("SET");
    command
        .arg(ADMITTED)
        .arg("x")
        .exec_async(&mut redis)
        .await?;
    eventually("ingest names the key, and goes on", async || {
        for ingest in &stack.ingests {
            let body = ingest.get("/readyz").await?.expect(200)?;
            let redis = &body["dependencies"]["redis"];
            ensure!(body["status"] == "degraded", "{body}");
            ensure!(text(redis, "reason").contains(ADMITTED), "{body}");
        }
        Ok(())
    })
    .await?;
    stack.device("OTSM-0002").send(1).await?;
    let letters = eventually("the unknown detector is a dead letter", async || {
        let letters = dead_letters(&stack).await?;
        ensure!(letters.len() == 1, "{} dead letters", letters.len());
        Ok(letters)
    })
    .await?;
    assert_eq!(letters[0]["reason"], "commit_failed");
    assert!(letters[0]["detail"].contains(ADMITTED), "{letters:?}");
    let from = browser.seen_count();
    stack.device(NEIGHBOUR).send(300).await?;
    browser
        .event_after(from, "device:alerts:changed", NEIGHBOUR)
        .await?;
    // The replica still reports that it listens. Clients are told what is missing.
    eventually("the gateway says so", async || {
        let body = stack.get("/readyz").await?.expect(200)?;
        let ingest = &body["dependencies"]["ingest"];
        ensure!(body["status"] == "degraded", "{body}");
        ensure!(ingest["ok"] == true, "{body}");
        Ok(())
    })
    .await?;

    let mut command = redis::cmd("DEL");
    command.arg(ADMITTED).exec_async(&mut redis).await?;
    eventually("both services are ok again", async || {
        for service in [&stack.ingests[0], &stack.gateways[0]] {
            let body = service.get("/readyz").await?.expect(200)?;
            ensure!(body["status"] == "ok", "{body}");
        }
        Ok(())
    })
    .await?;
    stack.device("OTSM-0002").send(2).await?;
    stack.shows("OTSM-0002", 2).await?;
    stack.pass()
}

#[tokio::test]
async fn forged_texts_reach_no_screen_and_similar_serials_are_different_devices() -> Result<()> {
    let stack = Stack::start().await?;
    let evil = "A\u{202e}B\u{1b}[2J\u{200b}C\u{e0041}\u{2028}D";
    let payload = |serial: &str| {
        json!({
            "OTSM-2 Serial Number": serial, "Device Alias Name": evil, "Gas": evil,
            "Unit of Measurement": evil, "Message Type": evil, "Sender": evil,
            "Parameters": {"Live Sensor Readings ": 300, "Alarm Level A1": 250, "A1Type": "High\u{202e}"},
        })
        .to_string()
    };
    let serials = ["OTSM-7", "OTSM\u{d0}7", "OTSM.7", "OTSM 7"];
    for serial in serials {
        stack.publisher().publish(TOPIC, payload(serial)).await?;
    }
    let list = eventually("all four are stored", async || {
        let list = stack.get("/api/devices").await?.expect(200)?;
        ensure!(list["count"] == serials.len(), "{list}");
        Ok(list)
    })
    .await?;
    assert!(!list.to_string().chars().any(is_hidden), "{list}");
    let rows = eventually("all four alarms are in the log", async || {
        let rows = stack.get("/alarm-logs").await?.expect(200)?;
        ensure!(rows["total_count"] == serials.len(), "{rows}");
        Ok(rows)
    })
    .await?;
    assert!(!rows.to_string().chars().any(is_hidden), "{rows}");
    let rows = rows["logs"].as_array().context("rows")?;
    let ids: HashSet<&str> = rows.iter().map(|row| text(row, "alarm_id")).collect();
    assert_eq!(ids.len(), serials.len(), "{ids:?}");

    // Only its own alarm is acknowledged.
    let row = rows.iter().find(|row| text(row, "device_id") == "OTSM.7");
    let id = text(row.context("a row")?, "alarm_id").to_owned();
    stack.acknowledge("OTSM.7", &id, "{}").await?.expect(200)?;
    stack.acknowledge("OTSM-7", &id, "{}").await?.expect(404)?;
    stack.pass()
}

/// An earlier release has stored detectors under such serials. None of them may fall silent.
#[tokio::test]
async fn a_detector_whose_serial_has_hidden_characters_is_heard_under_exactly_that_serial()
-> Result<()> {
    let stack = Plan::default().operator_port().start().await?;
    let serials = [
        ("OTSM-7", "OTSM-7", "OTSM-7"),
        ("OTSM\u{200b}-7", "OTSM%E2%80%8B-7", r#""OTSM\u{200b}-7""#),
        ("OTSM-7\u{202e}", "OTSM-7%E2%80%AE", r#""OTSM-7\u{202e}""#),
    ];
    let mut browsers = Vec::new();
    for (serial, _, _) in serials {
        let browser = stack.browser().await?;
        browser.subscribe(serial).await?;
        browsers.push(browser);
    }
    for (number, (serial, _, _)) in serials.into_iter().enumerate() {
        stack.device(serial).send(1_200 + number).await?;
    }
    for (number, (serial, in_a_path, in_a_log)) in serials.into_iter().enumerate() {
        let browser = &browsers[number];
        let event = browser
            .event_after(0, "device:alerts:changed", serial)
            .await?;
        let latest = stack.shows(in_a_path, 1_200 + number).await?;
        assert_eq!(latest["serial_number"], serial);
        // Nobody gets the alarm of a detector that only looks like the one that is watched.
        let of_others = browser.seen();
        let of_others = of_others.iter().filter(|seen| {
            let others = serials.iter().filter(|(other, _, _)| *other != serial);
            others
                .into_iter()
                .any(|(other, _, _)| seen.body["deviceId"] == *other)
        });
        assert_eq!(of_others.count(), 0);
        let id = text(&event["alerts"][0], "id").to_owned();
        let answer = stack.acknowledge(in_a_path, &id, "{}").await?;
        answer.expect(200)?;
        eventually("the log tells them apart", async || {
            let output = stack.ingests.iter().map(|ingest| ingest.process.output());
            let output: String = output.collect();
            let field = json!({"device.id": in_a_log}).to_string();
            let field = field.trim_matches(['{', '}']);
            ensure!(output.contains(field), "{field} in {output}");
            Ok(())
        })
        .await?;
    }
    for service in stack.ingests.iter().chain(&stack.gateways) {
        let output = service.process.output();
        let lines = output.lines();
        assert!(!lines.into_iter().any(|line| line.contains(is_hidden)));
    }
    assert_eq!(dead_letters(&stack).await?.len(), 0);
    let list = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(list["count"], serials.len(), "{list}");
    // An operator retires exactly one.
    let retired = stack.retire(serials[1].1, "{}").await?;
    retired.expect(200)?;
    let list = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(list["count"], serials.len() - 1, "{list}");
    stack.pass()
}

#[tokio::test]
async fn a_flapping_detector_leaves_the_evidence_of_others_in_the_log() -> Result<()> {
    // Everybody is in one partition, whose log is short.
    let flags = "--log-max=1000 --chatter-calm=0s --device-rate=0";
    let stack = Plan::default()
        .variable("PARTITIONS", "1")
        .ingest_flags(flags)
        .start()
        .await?;
    stack.device(NEIGHBOUR).send(300).await?;
    eventually("its alarm is in the log", async || {
        let path = format!("/devices/{NEIGHBOUR}/alarm-logs");
        let rows = stack.get(&path).await?.expect(200)?;
        ensure!(rows["total_count"] == 1, "{rows}");
        Ok(())
    })
    .await?;
    let bad = stack.device("OTSM-0002");
    for number in 0..1_500 {
        bad.send(if number % 2 == 0 { 300 } else { 10 }).await?;
    }
    bad.send(77).await?;
    stack.shows("OTSM-0002", 77).await?;

    let folded = eventually("the rest is counted", async || {
        let mut folded = stack.ingests[0].metric("ingest_log_folded_total ").await?;
        for other in &stack.ingests[1..] {
            folded += other.metric("ingest_log_folded_total ").await?;
        }
        ensure!(folded > 1_000.0, "{folded}");
        Ok(folded)
    })
    .await?;
    assert!(folded < 1_500.0, "{folded}");
    let mut redis = stack.redis_connection().await?;
    let length: u64 = redis::cmd("XLEN")
        .arg(PartitionKeys::new(0).log())
        .query_async(&mut redis)
        .await?;
    assert!(length < 230, "{length} entries");
    let rows = stack
        .get(&format!("/devices/{NEIGHBOUR}/alarm-logs"))
        .await?
        .expect(200)?;
    assert_eq!(rows["total_count"], 1, "{rows}");
    stack.pass()
}
