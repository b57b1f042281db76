//! Readings and their alarms: defects 1 to 13.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::stack::{Plan, Stack};

use super::{SERIAL, open_alarm_types};

#[tokio::test]
async fn defect_01_further_readings_above_a_level_raise_no_second_alarm() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    for value in 300..330 {
        device.send(value).await?;
    }
    stack.shows(SERIAL, 329).await?;
    assert_eq!(stack.alerts(SERIAL).await?.len(), 1);
    let logs = stack.get("/alarm-logs").await?.expect(200)?;
    assert_eq!(logs["total_count"], 1, "{logs}");
    stack.pass()
}

#[tokio::test]
async fn defect_02_an_alarm_of_type_low_is_raised_at_or_below_its_level() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let oxygen = |value: f64| {
        device
            .old(value)
            .with_parameter("A1Type", "Low")
            .with_parameter("Alarm Level A1", 19.5)
            .with_parameter("Alarm Level A2", 18)
            .with_parameter("Alarm Level A3", 16)
            .with_parameter("Span High", 25)
    };
    device.publish(&oxygen(20.9)).await?;
    let normal = stack.shows(SERIAL, 20.9).await?;
    assert_eq!(normal["alarm_status"], "NORMAL", "{normal}");
    device.publish(&oxygen(19.5)).await?;
    stack.shows(SERIAL, 19.5).await?;
    let alerts = stack.alerts(SERIAL).await?;
    assert_eq!(open_alarm_types(&alerts), ["alarm_level_1"]);
    assert_eq!(
        alerts[0]["message"],
        "Gas concentration below A1 threshold (19.5 ppm)"
    );
    device.publish(&oxygen(10.0)).await?;
    stack.shows(SERIAL, 10).await?;
    assert_eq!(
        open_alarm_types(&stack.alerts(SERIAL).await?),
        ["alarm_level_3"]
    );
    device.publish(&oxygen(20.9)).await?;
    let normal = stack.shows(SERIAL, 20.9).await?;
    assert_eq!(normal["alarm_status"], "NORMAL", "{normal}");
    // Nobody has seen A3 yet.
    let alerts = stack.alerts(SERIAL).await?;
    assert_eq!(open_alarm_types(&alerts), ["alarm_level_3"]);
    assert_eq!(alerts[0]["state"], "returned", "{alerts:?}");
    let id = alerts[0]["id"].as_str().context("an id")?;
    stack.acknowledge(SERIAL, id, "{}").await?.expect(200)?;
    assert!(open_alarm_types(&stack.alerts(SERIAL).await?).is_empty());
    stack.pass()
}

#[tokio::test]
async fn defect_03_an_alarm_clears_only_below_its_level_minus_the_hysteresis() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    for (value, status) in [
        (250, "ALARM"),
        (235, "ALARM"),
        (231, "ALARM"),
        (229, "NORMAL"),
    ] {
        let payload = device.old(value).with_parameter("A1Hysterysis", 20);
        device.publish(&payload).await?;
        let latest = stack.shows(SERIAL, value).await?;
        assert_eq!(latest["alarm_status"], status, "{value}");
    }
    stack.pass()
}

#[tokio::test]
async fn defect_04_a_level_or_an_led_alone_sets_the_alarm_status() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    // Above a level, but all LEDs are off.
    device
        .publish(&device.newest(300).with_parameter("Alarm 1 LED Status", 0))
        .await?;
    assert_eq!(stack.shows(SERIAL, 300).await?["alarm_status"], "ALARM");
    device.send(1).await?;
    assert_eq!(stack.shows(SERIAL, 1).await?["alarm_status"], "NORMAL");
    // An LED is on, but the reading is below all levels.
    device
        .publish(&device.newest(100).with_parameter("Alarm 1 LED Status", 1))
        .await?;
    assert_eq!(stack.shows(SERIAL, 100).await?["alarm_status"], "ALARM");
    let item = stack.get("/api/devices/OTSM-0001").await?.expect(200)?;
    assert_eq!(item["status"], "warning", "{item}");
    stack.pass()
}

#[tokio::test]
async fn defect_05_an_unreadable_reading_is_null_and_bad_and_raises_an_alarm() -> Result<()> {
    // The third one would be chattering.
    let plan = Plan::default().every_raise_is_an_alarm();
    let stack = plan.start().await?;
    let device = stack.device(SERIAL);
    device.send(1100).await?;
    stack.shows(SERIAL, 1100).await?;
    for bad in [Some(Value::Null), Some(json!("ERR")), None] {
        let payload = match bad {
            Some(value) => device.newest(value),
            None => device.newest(0).without("Live Sensor Readings "),
        };
        device.publish(&payload).await?;
        let latest = stack.shows(SERIAL, Value::Null).await?;
        assert_eq!(latest["offset"], Value::Null);
        assert_eq!(latest["data_quality"], "bad");
        assert_eq!(latest["alarm_status"], "ALARM");
        // The open gas alarm is unchanged.
        assert_eq!(
            open_alarm_types(&stack.alerts(SERIAL).await?),
            ["alarm_level_3", "reading_invalid"]
        );
        device.send(1100).await?;
        stack.shows(SERIAL, 1100).await?;
        assert_eq!(
            open_alarm_types(&stack.alerts(SERIAL).await?),
            ["alarm_level_3"]
        );
    }
    stack.pass()
}

#[tokio::test]
async fn defect_06_levels_keep_their_decimals_and_zero_is_a_value() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let payload = device
        .old(0.6)
        .with_parameter("Alarm Level A1", 0.5)
        .with_parameter("Alarm Level A2", 19.5)
        .with_parameter("Alarm Level A3", 30)
        .with_parameter("Span High", 0);
    device.publish(&payload).await?;
    let latest = stack.shows(SERIAL, 0.6).await?;
    assert_eq!(latest["a1_level"], 0.5);
    assert_eq!(latest["a2_level"], 19.5);
    assert_eq!(latest["span_high"], 0);
    let alerts = stack.alerts(SERIAL).await?;
    let gas = alerts
        .iter()
        .find(|alert| alert["type"] == "alarm_level_1")
        .context("an alarm at A1")?;
    assert_eq!(gas["threshold"], 0.5);
    assert_eq!(
        gas["message"],
        "Gas concentration above A1 threshold (0.5 ppm)"
    );

    let zero = device.newest(0).with_parameter("Alarm Level A1", 0);
    device.publish(&zero).await?;
    let latest = stack.shows(SERIAL, 0).await?;
    assert_eq!(latest["a1_level"], 0);
    assert_eq!(latest["alarm_status"], "ALARM", "0 >= 0: {latest}");
    stack.pass()
}

#[tokio::test]
async fn defect_07_an_unknown_unit_never_becomes_ppm() -> Result<()> {
    let stack = Plan::default()
        .ingest_flags("--unit-codes=1=ppm,3=%LEL")
        .start()
        .await?;
    let device = stack.device(SERIAL);
    for (code, unit, quality) in [
        (json!("%LEL"), "%LEL", "good"),
        (json!(3), "%LEL", "good"),
        (json!(2), "code 2", "uncertain"),
        (json!(1), "ppm", "good"),
    ] {
        let payload = device
            .newest(10)
            .with_parameter("Unit of Measurement ", code.clone());
        device.publish(&payload).await?;
        let latest = stack
            .latest_with(SERIAL, unit, |latest| latest["unit"] == unit)
            .await?;
        assert_eq!(latest["data_quality"], quality, "{code}: {latest}");
    }
    stack.pass()
}

#[tokio::test]
async fn defect_08_the_decimal_point_is_applied_if_configured() -> Result<()> {
    let stack = Plan::default()
        .ingest_flags("--decimal-point=scale")
        .start()
        .await?;
    let device = stack.device(SERIAL);
    device
        .publish(&device.newest(205).with_parameter("Decimal Point", 1))
        .await?;
    let latest = stack.shows(SERIAL, 20.5).await?;
    assert_eq!(latest["decimal_point"], 1);
    stack.pass()
}

#[tokio::test]
async fn defect_09_a_sensor_fault_never_looks_normal_and_never_hides_a_gas_alarm() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    device.send(600).await?;
    stack.shows(SERIAL, 600).await?;
    device
        .publish(&device.newest(600).with_parameter("Sensor Fault", 1))
        .await?;
    let latest = stack
        .latest_with(SERIAL, "the fault", |latest| latest["sensor_fault"] == 1)
        .await?;
    assert_eq!(latest["data_quality"], "uncertain", "{latest}");
    assert_eq!(
        open_alarm_types(&stack.alerts(SERIAL).await?),
        ["alarm_level_2", "sensor_fault"]
    );
    // A low value with a fault does not clear the alarm.
    device
        .publish(&device.newest(3).with_parameter("Sensor Fault", 1))
        .await?;
    let latest = stack.shows(SERIAL, 3).await?;
    assert_eq!(latest["alarm_status"], "ALARM", "{latest}");
    assert_eq!(
        open_alarm_types(&stack.alerts(SERIAL).await?),
        ["alarm_level_2", "sensor_fault"]
    );
    device.send(3).await?;
    stack
        .latest_with(SERIAL, "NORMAL", |latest| {
            latest["alarm_status"] == "NORMAL"
        })
        .await?;
    stack.pass()
}

#[tokio::test]
async fn defect_10_an_led_status_may_be_a_boolean_a_number_or_text() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    for (led, shown, quality) in [
        (json!(true), 1, "good"),
        (json!(2), 2, "good"),
        (json!("1"), 1, "good"),
        // Any word that does not mean normal means that it is lit.
        (json!("glowing"), 1, "good"),
    ] {
        device.send(0).await?;
        stack
            .latest_with(SERIAL, "no LED", |latest| latest["alarm1_led"] == 0)
            .await?;
        device
            .publish(
                &device
                    .newest(5)
                    .with_parameter("Alarm 1 LED Status", led.clone()),
            )
            .await?;
        let latest = stack.shows(SERIAL, 5).await?;
        assert_eq!(latest["alarm1_led"], shown, "{led}");
        assert_eq!(latest["alarm_status"], "ALARM", "{led}");
        assert_eq!(latest["data_quality"], quality, "{led}");
    }
    device
        .publish(
            &device
                .newest(6)
                .with_parameter("Alarm 1 LED Status", json!([1])),
        )
        .await?;
    assert_eq!(stack.shows(SERIAL, 6).await?["data_quality"], "uncertain");
    stack.pass()
}

#[tokio::test]
async fn defect_11_device_time_and_server_time_are_both_stored() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let payload = device
        .newest(300)
        .with("Date Time At Reading", "2026-01-28 11:37:12");
    device.publish(&payload).await?;
    let latest = stack.shows(SERIAL, 300).await?;
    assert_eq!(latest["timestamp"], "2026-01-28 11:37:12");
    assert!(
        latest["processed_at"]
            .as_str()
            .context("a time")?
            .ends_with('Z'),
        "{latest}"
    );
    assert_eq!(latest["clock_suspect"], true, "{latest}");
    let alert = &stack.alerts(SERIAL).await?[0];
    let reading_time = alert["reading_timestamp"]
        .as_str()
        .context("a device time")?;
    assert!(reading_time.starts_with("2026-01-28"), "{alert}");
    assert_ne!(alert["timestamp"], alert["reading_timestamp"]);
    stack.pass()
}

// Defect 12, a silent device stayed normal forever, is tested in `offline`.

#[tokio::test]
async fn defect_13_each_level_is_compared_alone_whatever_the_order_of_the_levels() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let payload = device
        .newest(300)
        .with_parameter("Alarm Level A1", 1000)
        .with_parameter("Alarm Level A3", 250);
    device.publish(&payload).await?;
    stack.shows(SERIAL, 300).await?;
    let alerts = stack.alerts(SERIAL).await?;
    assert_eq!(open_alarm_types(&alerts), ["alarm_level_3"]);
    assert_eq!(alerts[0]["threshold"], 250);
    stack.pass()
}
