//! Clients that ask for the changed fields of readings have the same readings as the others.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::stack::Stack;

const SERIAL: &str = "OTSM-0001";
const DATA: &str = "device:data";
const CHANGED: &str = "device:data:changed";

/// Subscribes from this position on.
async fn subscribe(browser: &Browser, since: Option<&Value>) -> Result<Value> {
    let mut body = json!({"deviceId": SERIAL, "changes": true});
    if let Some(since) = since {
        body["since"] = json!({"epoch": since["epoch"], "seq": since["seq"]});
    }
    browser.ask("subscribe:device", body).await
}

fn is_reading(seen: &BrowserEvent) -> bool {
    seen.is_of(DATA, SERIAL) || seen.is_of(CHANGED, SERIAL)
}

/// Waits for the reading with this `seq` and returns its event.
async fn reading(browser: &Browser, from: usize, seq: u64) -> Result<BrowserEvent> {
    let is_it = |seen: &BrowserEvent| is_reading(seen) && seen.seq() == Some(seq);
    browser
        .wait_after(from, &format!("reading {seq}"), is_it)
        .await
}

/// Does what `gateway/README.md` tells clients to do. Returns each reading with its `seq`.
fn followed(seen: &[BrowserEvent]) -> Result<Vec<(u64, Value)>> {
    let mut last: Option<(Value, Value)> = None;
    let mut readings = Vec::new();
    for event in seen.iter().filter(|event| is_reading(event)) {
        let body = &event.body;
        let data = if event.name == DATA {
            body["data"].clone()
        } else {
            let (position, mut data) = last.take().context("a reading before the first change")?;
            ensure!(body["base"] == position, "not based on {position}: {body}");
            let fields = data.as_object_mut().context("an object")?;
            for name in body["removed"].as_array().into_iter().flatten() {
                fields.shift_remove(name.as_str().context("a name")?);
            }
            let changed = body["changed"].as_object().context("an object")?;
            fields.extend(changed.clone());
            data
        };
        let position = json!({"epoch": body["epoch"], "seq": body["seq"]});
        readings.push((event.seq().context("a number")?, data.clone()));
        last = Some((position, data));
    }
    Ok(readings)
}

/// Asserts that both clients have the same readings from this position on.
fn have_the_same(browser: &Browser, plain: &Browser, first: u64) -> Result<()> {
    let found: Vec<_> = followed(&browser.seen())?;
    let expected = followed(&plain.seen())?;
    let after = |readings: Vec<(u64, Value)>| -> Vec<(u64, Value)> {
        let readings = readings.into_iter();
        readings.filter(|(seq, _)| *seq >= first).collect()
    };
    assert_eq!(after(found), after(expected));
    Ok(())
}

#[tokio::test]
async fn the_first_reading_is_whole_and_the_others_have_what_changed() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let port = stack.gateways[0].port();
    device.send(1).await?;
    stack.shows(SERIAL, 1).await?;
    let plain = stack.browser().await?;
    plain.subscribe(SERIAL).await?;
    let websocket = Browser::connect(port, Transport::WebSocket).await?;
    let upgraded = Browser::connect(port, Transport::Upgrade).await?;
    let polling = Browser::connect(port, Transport::Polling).await?;
    for browser in [&websocket, &upgraded, &polling] {
        let answer = subscribe(browser, None).await?;
        assert_eq!(answer["seq"], 1, "{answer}");
    }
    // One by one, so that nothing has to wait for the client. The alarm has further events of the same position.
    let values = [2, 3, 300, 600, 4];
    for (seq, value) in (2..).zip(values) {
        device.send(value).await?;
        for browser in [&plain, &websocket, &upgraded, &polling] {
            reading(browser, 0, seq).await?;
        }
    }
    for browser in [&websocket, &upgraded] {
        let names = browser.seen().into_iter().filter(is_reading);
        let names: Vec<String> = names.map(|event| event.name).collect();
        assert_eq!(names, [DATA, DATA, CHANGED, CHANGED, CHANGED, CHANGED]);
        have_the_same(browser, &plain, 1)?;
    }
    assert_eq!(polling.events(CHANGED, SERIAL), [Value::Null; 0]);
    have_the_same(&polling, &plain, 1)?;

    let whole = reading(&plain, 0, 3).await?.body.to_string().len();
    let changed = reading(&websocket, 0, 3).await?.body;
    let bytes = changed.to_string().len();
    ensure!(2 * bytes < whole, "{bytes} of {whole} bytes: {changed}");
    stack.pass()
}

#[tokio::test]
async fn what_is_recovered_is_whole_and_so_is_the_first_reading_after_it() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    device.send(0).await?;
    stack.shows(SERIAL, 0).await?;
    let plain = stack.browser().await?;
    plain.subscribe(SERIAL).await?;
    let browser = stack.browser().await?;
    subscribe(&browser, None).await?;
    for (seq, value) in [(2, 1), (3, 2)] {
        device.send(value).await?;
        reading(&browser, 0, seq).await?;
    }
    let last = reading(&browser, 0, 3).await?;
    assert_eq!(last.name, CHANGED);
    browser.disconnect().await?;
    for (seq, value) in [(4, 3), (5, 300)] {
        device.send(value).await?;
        reading(&plain, 0, seq).await?;
    }
    let from = browser.seen_count();
    browser.reconnect().await?;
    let answer = subscribe(&browser, Some(&last.body)).await?;
    assert_eq!(answer["recovered"], true, "{answer}");
    for (seq, value) in [(6, 5), (7, 6)] {
        device.send(value).await?;
        reading(&browser, from, seq).await?;
    }
    let names = browser.seen_after(from).into_iter().filter(is_reading);
    let names: Vec<String> = names.map(|event| event.name).collect();
    assert_eq!(names, [DATA, DATA, DATA, CHANGED]);
    reading(&plain, 0, 7).await?;
    have_the_same(&browser, &plain, 1)?;
    stack.pass()
}
