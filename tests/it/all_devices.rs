//! The rows and the open alarms of all devices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::all_devices::{List, ROW_FIELDS, open_alarms, without_position};
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::eventually::eventually;
use tests::http;
use tests::ledger::Load;
use tests::seed::Seed;
use tests::stack::{Plan, Stack};
use tests::tcp_proxy::TcpProxy;
use tests::tokens::{Signed, TokenIssuer};

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

/// A token for some devices: no row, no alarm and no count of any other one.
#[tokio::test]
async fn nothing_of_a_device_reaches_whoever_may_not_read_it() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let flags = format!("{} --allow-anonymous=none", issuer.flags().join(" "));
    let stack = Plan::default()
        .gateway_flags(&flags)
        .operator_port()
        .start()
        .await?;
    let (ours, other) = (stack.device("OTSM-0114"), stack.device("OTSM-0200"));
    let open = async |claims: Value| {
        let token = issuer.token(Signed::Es256, claims)?;
        let options = json!({"transports": ["websocket"], "auth": {"token": token}});
        Browser::open(stack.gateways[0].port(), options).await
    };
    let all = open(json!({})).await?;
    let some = open(json!({"devices": ["OTSM-01*"], "verbs": ["read"], "sub": "some"})).await?;
    let none = open(json!({"verbs": ["admin"]})).await?;
    for event in ["subscribe:fleet", "subscribe:alarms"] {
        let answer = none.ask(event, json!({})).await?;
        ensure!(
            answer
                == json!({"ok": false, "error": {"code": "forbidden", "message": "not allowed"}}),
            "{answer}"
        );
        for bad in [
            json!(7),
            json!({"filter": {"prefix": "x".repeat(65)}}),
            json!({"filter": {"status": "red", "severity": "red"}}),
        ] {
            let answer = some.ask(event, bad).await?;
            ensure!(answer["error"]["code"] == "invalid", "{answer}");
        }
    }
    for browser in [&all, &some] {
        browser
            .ask("subscribe:fleet", json!({"interval": 250}))
            .await?;
        browser.ask("subscribe:alarms", json!({})).await?;
    }
    for value in [300, 10, 600] {
        for device in [&ours, &other] {
            device.send(value).await?;
        }
    }
    // Whoever sees everything shows when both have arrived.
    for device in ["OTSM-0114", "OTSM-0200"] {
        row(&all, device, |row| row["level"] == "A2").await?;
    }
    alarms(
        &all,
        &[
            ("OTSM-0114", "unacknowledged"),
            ("OTSM-0200", "unacknowledged"),
        ],
    )
    .await?;
    row(&some, "OTSM-0114", |row| row["level"] == "A2").await?;
    alarms(&some, &[("OTSM-0114", "unacknowledged")]).await?;
    for seen in some.seen() {
        ensure!(!seen.body.to_string().contains("OTSM-0200"), "{seen:?}");
    }
    let token = issuer.token(
        Signed::Es256,
        json!({"devices": ["OTSM-01*"], "verbs": ["read"]}),
    )?;
    let headers = [("authorization", format!("Bearer {token}"))];
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let port = stack.gateways[0].port();
    let list = http::send(port, "GET", "/api/alarms/open", &headers, b"")
        .await?
        .expect(200)?;
    ensure!(
        list["total"] == 1 && !list.to_string().contains("OTSM-0200"),
        "{list}"
    );

    // A token that allows more sends everything anew; one that allows less ends the connection.
    let wider = issuer.token(Signed::Es256, json!({"verbs": ["read"], "sub": "some"}))?;
    some.ask("auth:refresh", json!({"token": wider})).await?;
    row(&some, "OTSM-0200", |row| row["level"] == "A2").await?;
    alarms(
        &some,
        &[
            ("OTSM-0114", "unacknowledged"),
            ("OTSM-0200", "unacknowledged"),
        ],
    )
    .await?;
    let narrow = issuer.token(
        Signed::Es256,
        json!({"devices": ["OTSM-02*"], "verbs": ["read"], "sub": "some"}),
    )?;
    some.emit("auth:refresh", json!({"token": narrow})).await?;
    some.wait_for("the end of the connection", |seen| {
        seen.what == "disconnect"
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

async fn profile(
    stack: &Stack,
    method: &str,
    device: &str,
    tag: Option<&str>,
    body: &Value,
) -> Result<http::Response> {
    let path = format!("/api/devices/{device}/profile");
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(tag.map(|tag| ("if-match", tag)));
    let port = stack.gateways[0].operator_port();
    let port = if method == "PUT" {
        port
    } else {
        stack.gateways[0].port()
    };
    let body = if method == "PUT" {
        body.to_string()
    } else {
        String::new()
    };
    http::send(port, method, &path, &headers, body.as_bytes()).await
}

/// Waits until the only open alarm has the name and the site that operators gave its device.
async fn the_alarm_is_of_kiln_3(browser: &Browser) -> Result<()> {
    eventually("the alarm has the name", async || {
        let alarms = List::of_alarms(browser)?.entries;
        let alarm = alarms.values().next().context("no alarm")?;
        ensure!(
            alarm["name"] == "Kiln 3" && alarm["site"] == "Mill",
            "{alarm}"
        );
        Ok(())
    })
    .await
}

async fn open_alarms_are_found_by_place(stack: &Stack) -> Result<()> {
    let open = stack
        .get("/api/alarms/open?zone=North&site=Mill")
        .await?
        .expect(200)?;
    ensure!(
        open["total"] == 1 && open["alarms"][0]["name"] == "Kiln 3",
        "{open}"
    );
    let open = stack
        .get("/api/alarms/open?zone=South")
        .await?
        .expect(200)?;
    ensure!(open["total"] == 0, "{open}");
    Ok(())
}

#[tokio::test]
async fn what_operators_say_about_a_device_is_shown_until_it_is_retired() -> Result<()> {
    let stack = Plan::default().operator_port().start().await?;
    let device = stack.device("OTSM-0001");
    let none = json!({});
    profile(&stack, "GET", "OTSM-0001", None, &none)
        .await?
        .expect(404)?;
    profile(&stack, "PUT", "OTSM-0001", Some("*"), &none)
        .await?
        .expect(404)?;
    device.send(300).await?;
    stack.shows("OTSM-0001", 300).await?;
    let browser = stack.browser().await?;
    browser.ask("subscribe:alarms", json!(null)).await?;
    browser
        .ask("subscribe:fleet", json!({"interval": 250}))
        .await?;
    let elsewhere = stack.browser().await?;
    let mill = json!({"filter": {"site": "Mill"}, "interval": 250});
    ensure!(elsewhere.ask("subscribe:fleet", mill.clone()).await?["devices"] == 0);
    ensure!(elsewhere.ask("subscribe:alarms", mill).await?["alarms"] == 0);

    let empty = profile(&stack, "GET", "OTSM-0001", None, &none).await?;
    let first = empty.header("etag").to_owned();
    let wanted = json!({"name": "Kiln 3", "zone": "North", "site": "Mill", "changed_by": "Asha"});
    profile(&stack, "PUT", "OTSM-0001", None, &wanted)
        .await?
        .expect(428)?;
    let set = profile(&stack, "PUT", "OTSM-0001", Some(&first), &wanted).await?;
    let second = set.header("etag").to_owned();
    let set = set.expect(200)?;
    ensure!(set["name"] == "Kiln 3" && set["zone"] == "North", "{set}");
    // Whoever has read the earlier one is refused.
    profile(&stack, "PUT", "OTSM-0001", Some(&first), &wanted)
        .await?
        .expect(412)?;
    let long = json!({"zone": "x".repeat(65)});
    profile(&stack, "PUT", "OTSM-0001", Some(&second), &long)
        .await?
        .expect(400)?;

    for shown in [&browser, &elsewhere] {
        let shown = row(shown, "OTSM-0001", |row| row["name"] == "Kiln 3").await?;
        ensure!(
            shown["zone"] == "North" && shown["site"] == "Mill",
            "{shown}"
        );
        ensure!(shown["sensor_reading"] == 300, "{shown}");
    }
    for shown in [&browser, &elsewhere] {
        the_alarm_is_of_kiln_3(shown).await?;
    }
    open_alarms_are_found_by_place(&stack).await?;

    // The device goes on sending its own name, and is restarted in the stored state.
    device
        .publish(&device.newest(310).with("Device Alise Name", "Other"))
        .await?;
    row(&browser, "OTSM-0001", |row| {
        row["sensor_reading"] == 310 && row["name"] == "Kiln 3"
    })
    .await?;
    let item = stack.get("/api/devices/OTSM-0001").await?.expect(200)?;
    ensure!(
        item["name"] == "Kiln 3" && item["data"]["device_name"] == "Other",
        "{item}"
    );
    let list = stack.get("/api/devices").await?.expect(200)?;
    ensure!(list["devices"][0]["site"] == "Mill", "{list}");

    // Absent stays, null goes.
    let moved = json!({"zone": "South", "site": null});
    let moved = profile(&stack, "PUT", "OTSM-0001", Some(&second), &moved)
        .await?
        .expect(200)?;
    ensure!(
        moved["name"] == "Kiln 3" && moved["zone"] == "South" && moved["site"].is_null(),
        "{moved}"
    );
    eventually("it has left the other site", async || {
        let (rows, alarms) = (
            List::of_rows(&elsewhere)?.entries,
            List::of_alarms(&elsewhere)?.entries,
        );
        ensure!(rows.is_empty() && alarms.is_empty(), "{rows:?} {alarms:?}");
        Ok(())
    })
    .await?;
    stack.retire("OTSM-0001", "{}").await?.expect(200)?;
    device.send(20).await?;
    let new = row(&browser, "OTSM-0001", |row| row["sensor_reading"] == 20).await?;
    ensure!(
        new["name"] == "Gas Sensor Block1" && new["zone"].is_null(),
        "{new}"
    );
    stack.pass()
}
