//! Upgrades: the data that an earlier release left in Redis is read and continued.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::eventually::eventually;
use tests::repository;
use tests::stack::{Plan, Stack};
use tests::upgrade::answers;

/// Recorded by `record-redis` from the release of this commit.
const BEFORE: &str = "4f11f68";

async fn stack_after_upgrade() -> Result<Stack> {
    let fixtures = repository::root().join("tests/fixtures/redis");
    Plan::default()
        .redis_contents(fixtures.join(format!("{BEFORE}.aof")))
        .start()
        .await
}

#[tokio::test]
async fn the_gateway_answers_what_the_release_before_answered() -> Result<()> {
    let stack = stack_after_upgrade().await?;
    let file = format!("tests/fixtures/redis/{BEFORE}.json");
    let recorded = std::fs::read_to_string(repository::root().join(file))?;
    let recorded: Value = serde_json::from_str(&recorded)?;
    let recorded = recorded.as_object().context("an object")?;
    let present = answers(&stack).await?;
    for (question, answer) in recorded {
        ensure!(
            present[question] == *answer,
            "{question}: {BEFORE} answered {answer}, now it is {}",
            present[question]
        );
    }
    stack.pass()
}

#[tokio::test]
async fn detectors_continue_where_the_release_before_left_them() -> Result<()> {
    let stack = stack_after_upgrade().await?;
    let open_before = open_alarm(&stack, "OTSM-A1").await?;
    let browser = stack.browser().await?;
    let joined = browser.subscribe("OTSM-A1").await?;
    let seq = joined["seq"].as_u64().context("a seq")?;

    // The open alarm is continued under its id, and its next event is one above the last.
    stack.device("OTSM-A1").send(600).await?;
    let change = browser
        .wait_for("the escalation", |seen| {
            seen.is_of("device:alerts:changed", "OTSM-A1")
        })
        .await?
        .body;
    assert_eq!(change["seq"], seq + 1);
    assert_eq!(change["alerts"][0]["change"], "escalated");
    assert_eq!(change["alerts"][0]["id"], open_before["id"]);

    // An alarm that was latched and not acknowledged clears with its acknowledgement.
    let latched = open_alarm(&stack, "OTSM-LATCHED").await?;
    let id = latched["id"].as_str().context("an id")?;
    let answer = stack.acknowledge("OTSM-LATCHED", id, "{}").await?;
    answer.expect(200)?;
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
    let stack = stack_after_upgrade().await?;
    let browser = stack.browser().await?;
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
    assert_eq!(answer["recovered"], true, "{answer}");
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

async fn open_alarm(stack: &Stack, serial: &str) -> Result<Value> {
    let alerts = stack.alerts(serial).await?;
    let open = alerts.into_iter().find(|alert| alert["state"] != "cleared");
    open.with_context(|| format!("{serial} has no open alarm"))
}
