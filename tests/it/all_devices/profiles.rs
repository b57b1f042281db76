//! What operators say about a device, in its row and in its alarms.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::all_devices::List;
use tests::browser::Browser;
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};

use super::row;

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
