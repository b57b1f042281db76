//! The rows and the open alarms of all devices.

mod access;
mod profiles;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::all_devices::{List, ROW_FIELDS, open_alarms, without_position};
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::eventually::eventually;
use tests::ledger::Load;
use tests::seed::Seed;
use tests::stack::{Plan, Stack};
use tests::tcp_proxy::TcpProxy;

/// Waits until the browser shows such a row of this device.
async fn row(browser: &Browser, device: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(&format!("a row of {device}"), async || {
        let rows = List::of_rows(browser)?.entries;
        let row = rows.get(device).context("no row")?.clone();
        ensure!(is_it(&row), "{row}");
        Ok(row)
    })
    .await
}

/// Waits until the browser shows exactly these alarms, by device and state.
async fn alarms(browser: &Browser, expected: &[(&str, &str)]) -> Result<Vec<Value>> {
    eventually("the list of alarms", async || {
        let list = List::of_alarms(browser)?;
        let shown: BTreeSet<(&str, &str)> = list
            .entries
            .values()
            .map(|alarm| {
                let text = |field: &str| alarm[field].as_str().unwrap_or_default();
                (text("deviceId"), text("state"))
            })
            .collect();
        ensure!(shown == expected.iter().copied().collect(), "{shown:?}");
        Ok(list.entries.into_values().collect())
    })
    .await
}

#[tokio::test]
async fn rows_follow_readings_filters_silence_and_retirement() -> Result<()> {
    let plan = Plan::default()
        .operator_port()
        .ingest_flags("--offline-after=4s");
    let stack = plan.start().await?;
    let (calm, busy) = (stack.device("OTSM-0001"), stack.device("OTSM-0002"));
    calm.send(10).await?;
    stack.shows("OTSM-0001", 10).await?;
    let all = Browser::connect(stack.gateways[0].port(), Transport::WebSocket).await?;
    let answer = all.ask("subscribe:fleet", json!({"interval": 250})).await?;
    ensure!(
        answer == json!({"ok": true, "interval": 250, "devices": 1}),
        "{answer}"
    );
    let polling = Browser::connect(stack.gateways[0].port(), Transport::Polling).await?;
    let filter = json!({"filter": {"status": ["critical", "warning"], "prefix": "OTSM-0002"}, "interval": 250});
    let answer = polling.ask("subscribe:fleet", filter).await?;
    ensure!(answer["devices"] == 0, "{answer}");

    // A device that has sent nothing before, then one that raises and lowers.
    busy.send(20).await?;
    row(&all, "OTSM-0002", |row| row["sensor_reading"] == 20).await?;
    busy.send(600).await?;
    let shown = row(&polling, "OTSM-0002", |row| row["level"] == "A2").await?;
    ensure!(
        shown["status"] == "critical" && shown["alarms"] == 1,
        "{shown}"
    );
    let latest = stack.get("/api/devices/OTSM-0002").await?.expect(200)?;
    for field in ROW_FIELDS {
        ensure!(shown[field] == latest[field], "{field}: {shown} {latest}");
    }
    let alerts = stack.alerts("OTSM-0002").await?;
    let id = alerts[0]["id"].as_str().context("an id")?;
    busy.send(20).await?;
    row(&all, "OTSM-0002", |row| {
        row["sensor_reading"] == 20 && row["alarms"] == 1
    })
    .await?;
    stack
        .acknowledge("OTSM-0002", id, "{}")
        .await?
        .expect(200)?;
    row(&all, "OTSM-0002", |row| {
        row["status"] == "online" && row["alarms"] == 0
    })
    .await?;
    eventually("it no longer matches the filter", async || {
        let rows = List::of_rows(&polling)?.entries;
        ensure!(rows.is_empty(), "{rows:?}");
        Ok(())
    })
    .await?;

    // Both fall silent. One is retired.
    row(&all, "OTSM-0001", |row| {
        row["data_quality"] == "offline" && row["offline"] == true
    })
    .await?;
    stack.retire("OTSM-0002", "{}").await?.expect(200)?;
    eventually("the row is gone", async || {
        let rows = List::of_rows(&all)?.entries;
        ensure!(rows.keys().eq(["OTSM-0001"]), "{rows:?}");
        Ok(())
    })
    .await?;
    ensure!(all.ask("unsubscribe:fleet", json!(null)).await? == json!({"ok": true}));
    let answer = polling
        .ask("subscribe:fleet", json!({"interval": 250}))
        .await?;
    ensure!(answer["devices"] == 1, "{answer}");
    let from = all.seen_count();
    calm.send(11).await?;
    row(&polling, "OTSM-0001", |row| row["sensor_reading"] == 11).await?;
    let later = all.seen_after(from);
    ensure!(
        !later.iter().any(|seen| seen.name.starts_with("fleet:")),
        "{later:?}"
    );
    stack.pass()
}

#[tokio::test]
async fn alarms_are_the_same_at_every_replica_whoever_changes_them() -> Result<()> {
    let plan = Plan::default().gateways(2).operator_port();
    let stack = plan.start().await?;
    let devices = ["OTSM-0001", "OTSM-0002", "OTSM-0003"].map(|serial| stack.device(serial));
    devices[0].send(300).await?;
    stack.shows("OTSM-0001", 300).await?;
    let mut browsers = Vec::new();
    for (gateway, transport) in stack
        .gateways
        .iter()
        .zip([Transport::WebSocket, Transport::Polling])
    {
        let browser = Browser::connect(gateway.port(), transport).await?;
        let answer = browser.ask("subscribe:alarms", json!(null)).await?;
        ensure!(answer == json!({"ok": true, "alarms": 1}), "{answer}");
        browsers.push(browser);
    }
    let severe = Browser::connect(stack.gateways[1].port(), Transport::WebSocket).await?;
    let filter = json!({"filter": {"severity": ["critical", "high"]}});
    ensure!(severe.ask("subscribe:alarms", filter).await?["alarms"] == 0);
    devices[1].send(1200).await?;
    devices[2]
        .publish(&devices[2].newest(10).with_parameter("Sensor Fault", 1))
        .await?;
    let open = |state| {
        [
            ("OTSM-0001", state),
            ("OTSM-0002", "unacknowledged"),
            ("OTSM-0003", "unacknowledged"),
        ]
    };
    for browser in &browsers {
        alarms(browser, &open("unacknowledged")).await?;
    }
    alarms(&severe, &open("unacknowledged")[1..]).await?;

    // The first replica acknowledges, with the position that was shown.
    let shown = List::of_alarms(&browsers[0])?.entries;
    let of_first = shown
        .values()
        .find(|alarm| alarm["deviceId"] == "OTSM-0001")
        .context("its alarm")?;
    let id = of_first["id"].as_str().context("an id")?;
    let seen = json!({"acknowledged_by": "Asha", "seen": {"epoch": of_first["epoch"], "seq": of_first["seq"]}});
    let answer = stack
        .acknowledge("OTSM-0001", id, &seen.to_string())
        .await?
        .expect(200)?;
    ensure!(answer == json!({"success": true}), "{answer}");
    for browser in &browsers {
        let all = alarms(browser, &open("acknowledged")).await?;
        let first = all
            .iter()
            .find(|alarm| alarm["deviceId"] == "OTSM-0001")
            .context("its alarm")?;
        ensure!(first["acknowledged_by"] == "Asha", "{first}");
    }

    // The list over REST: most urgent first, and every filter.
    let list = stack.get("/api/alarms/open").await?.expect(200)?;
    let order: Vec<&str> = list["alarms"]
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|alarm| alarm["deviceId"].as_str())
        .collect();
    ensure!(order[2] == "OTSM-0001" && list["total"] == 3, "{list}");
    let list = stack
        .get("/api/alarms/open?severity=warning,high&prefix=OTSM-0001")
        .await?
        .expect(200)?;
    ensure!(list["count"] == 1 && list["total"] == 1, "{list}");
    for bad in ["severity=urgent", "after=x", "limit=x"] {
        stack
            .get(&format!("/api/alarms/open?{bad}"))
            .await?
            .expect(400)?;
    }

    // One ends by itself, one with its device.
    devices[0].send(10).await?;
    stack.retire("OTSM-0003", "{}").await?.expect(200)?;
    for browser in &browsers {
        alarms(browser, &[("OTSM-0002", "unacknowledged")]).await?;
        let ended = |change: &str| {
            let is_it = |seen: &BrowserEvent| {
                let mut ended = seen.body["ended"].as_array().into_iter().flatten();
                seen.is_event("alarms:changed") && ended.any(|ended| ended["change"] == change)
            };
            browser.seen().iter().any(is_it)
        };
        ensure!(ended("cleared") && ended("retired"), "{:?}", browser.seen());
    }
    stack.pass()
}

/// Every alarm of the log was sent, also those that were raised and ended between two looks.
#[tokio::test]
async fn no_transition_is_left_out_however_short_an_alarm_is() -> Result<()> {
    const RAISES: i64 = 40;
    let stack = Plan::default().every_raise_is_an_alarm().start().await?;
    let browser = stack.browser().await?;
    browser.ask("subscribe:alarms", json!(null)).await?;
    let devices = ["OTSM-0001", "OTSM-0002", "OTSM-0003"].map(|serial| stack.device(serial));
    for number in 0..RAISES {
        for device in &devices {
            device
                .send([300, 600, 1200][usize::try_from(number % 3)?])
                .await?;
            device.send(10).await?;
        }
    }
    for device in &devices {
        device.send(7).await?;
        stack.shows(device.serial(), 7).await?;
    }
    let log = stack.get("/alarm-logs?limit=1000").await?.expect(200)?;
    let rows = log["logs"].as_array().context("rows")?;
    let logged: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row["alarm_id"].as_str())
        .collect();
    ensure!(logged.len() > 10, "too few alarms: {logged:?}");
    eventually("every alarm was raised and ended", async || {
        let (raised, ended) = (ids_in(&browser, "changed")?, ids_in(&browser, "ended")?);
        ensure!(
            raised.iter().map(String::as_str).eq(logged.iter().copied()),
            "{raised:?} {logged:?}"
        );
        ensure!(ended == raised, "{ended:?} {raised:?}");
        Ok(())
    })
    .await?;
    // One event may tell several of them.
    let events = browser
        .seen()
        .iter()
        .filter(|seen| seen.is_event("alarms:changed"))
        .count();
    ensure!(events < logged.len(), "{events} events");
    stack.pass()
}

/// The alarms that were in this field of events.
fn ids_in(browser: &Browser, field: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for seen in browser.seen() {
        for alarm in seen.body[field].as_array().into_iter().flatten() {
            found.insert(alarm["id"].as_str().context("an id")?.to_owned());
        }
    }
    Ok(found)
}

/// The list of a browser, the list over REST, and the alarms of all devices are the same.
async fn check_lists(stack: &Stack, browser: &Browser, serials: &[String]) -> Result<()> {
    eventually("all lists are the same", async || {
        let port = stack.gateways[0].port();
        let over_rest = open_alarms(port).await?;
        let mut of_devices = BTreeMap::new();
        for serial in serials {
            for alert in stack.alerts(serial).await? {
                if alert["state"] != "cleared" {
                    let id = alert["id"].as_str().context("an id")?.to_owned();
                    of_devices.insert(id, alert["state"].clone());
                }
            }
        }
        let states: BTreeMap<String, Value> = over_rest
            .iter()
            .map(|(id, alarm)| (id.clone(), alarm["state"].clone()))
            .collect();
        ensure!(states == of_devices, "REST: {states:?} {of_devices:?}");
        let shown = List::of_alarms(browser)?;
        let (shown, over_rest) = (
            without_position(&shown.entries),
            without_position(&over_rest),
        );
        ensure!(
            shown == over_rest,
            "shown: {shown:#?}, open: {over_rest:#?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lists_are_right_after_lost_connections_and_dead_processes() -> Result<()> {
    const DEVICES: usize = 12;
    let mut seed = Seed::from_environment();
    let plan = Plan::default()
        .gateways(2)
        .redis_flags("--appendfsync always");
    let mut stack = plan.start().await?;
    let serials = Load::serials(DEVICES);
    let mut browsers = Vec::new();
    let mut proxies = Vec::new();
    for (gateway, transport) in stack
        .gateways
        .iter()
        .zip([Transport::WebSocket, Transport::Polling])
    {
        let proxy = TcpProxy::start(gateway.port()).await?;
        let browser = Browser::connect(proxy.port(), transport).await?;
        browser.keep("subscribe:alarms", json!({})).await?;
        browser
            .keep("subscribe:fleet", json!({"interval": 250}))
            .await?;
        browsers.push(browser);
        proxies.push(proxy);
    }
    let load = Load::start(&stack, &serials, Duration::from_millis(100), &mut seed);
    for _ in 0..seed.rounds() {
        for browser in &browsers {
            load.wait_until_caught_up(&stack).await?;
            browser.lose_connection().await?;
        }
        load.wait_until_caught_up(&stack).await?;
        stack.gateways[0].process.kill().await?;
        stack.gateways[0].process.restart()?;
        stack.gateways[0].ready().await?;
        load.wait_until_caught_up(&stack).await?;
        stack.redis.process.kill().await?;
        stack.redis.process.restart()?;
        stack.redis.listens().await?;
        load.wait_until_caught_up(&stack).await?;
    }
    // Ends with readings that raise nothing; what nobody acknowledged stays open.
    load.stop(&stack).await?;
    for browser in &browsers {
        check_lists(&stack, browser, &serials).await?;
        eventually("every row is that of the latest reading", async || {
            let rows = List::of_rows(browser)?.entries;
            for serial in &serials {
                let row = rows.get(serial).context("no row")?;
                let latest = stack.latest(serial).await?;
                ensure!(
                    row["sensor_reading"] == latest["sensor_reading"],
                    "{row} {latest}"
                );
            }
            Ok(())
        })
        .await?;
    }
    stack.pass()
}

/// Redis loses everything while a browser watches. Ingest writes what it remembers again.
#[tokio::test]
async fn alarms_stay_in_the_list_when_redis_loses_its_data() -> Result<()> {
    let stack = Plan::default().start().await?;
    let device = stack.device("OTSM-0001");
    device.send(1200).await?;
    stack.shows("OTSM-0001", 1200).await?;
    let browser = stack.browser().await?;
    browser.ask("subscribe:alarms", json!(null)).await?;
    browser
        .ask("subscribe:fleet", json!({"interval": 250}))
        .await?;
    let before = alarms(&browser, &[("OTSM-0001", "unacknowledged")]).await?;
    let snapshots = List::of_alarms(&browser)?.snapshots;
    let mut redis = stack.redis_connection().await?;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await?;
    eventually("the list is sent again", async || {
        let list = List::of_alarms(&browser)?;
        ensure!(list.snapshots > snapshots, "not yet");
        Ok(())
    })
    .await?;
    let after = alarms(&browser, &[("OTSM-0001", "unacknowledged")]).await?;
    ensure!(after[0]["id"] == before[0]["id"], "{after:?} {before:?}");
    for seen in browser.seen() {
        let ended = seen.body["ended"]
            .as_array()
            .is_some_and(|ended| !ended.is_empty());
        ensure!(!ended, "the alarm was shown as ended: {seen:?}");
    }
    row(&browser, "OTSM-0001", |row| {
        row["level"] == "A3" && row["offline"] == false
    })
    .await?;
    stack.pass()
}

/// As long as nobody follows all devices, nothing is read for that.
#[tokio::test]
async fn nothing_is_read_while_nobody_subscribes() -> Result<()> {
    let stack = Plan::default().start().await?;
    let device = stack.device("OTSM-0001");
    device.send(300).await?;
    stack.shows("OTSM-0001", 300).await?;
    let looks = async || {
        let mut redis = stack.redis_connection().await?;
        let stats: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut redis)
            .await?;
        let line = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_zcard:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
        anyhow::Ok(calls.map_or(0, |calls| calls.parse::<u64>().unwrap_or_default()))
    };
    let before = looks().await?;
    let browser = stack.browser().await?;
    browser.subscribe("OTSM-0001").await?;
    device.send(10).await?;
    stack.shows("OTSM-0001", 10).await?;
    let without = looks().await?;
    browser.ask("subscribe:alarms", json!(null)).await?;
    let with = looks().await?;
    // Health checks count devices, too: once for all partitions, and not four times a second.
    ensure!(with - without >= 64, "{before} {without} {with}");
    ensure!(
        stack.gateways[0]
            .metric(r#"gateway_feeds{feed="alarms"}"#)
            .await?
            > 0.5
    );
    browser.ask("unsubscribe:alarms", json!(null)).await?;
    eventually("it is no longer counted", async || {
        let count = stack.gateways[0].metric("gateway_feeds{").await?;
        ensure!(count < 0.5, "{count}");
        Ok(())
    })
    .await?;
    stack.pass()
}
