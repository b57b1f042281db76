//! Checks the broker for `check-config`, without disturbing a replica that may be running.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, RetainForwardRule, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use shared::check_config::ConnectionCheck;
use tokio::time::timeout;

use super::config::MqttConfig;
use super::options;

/// Connects, subscribes to every topic, and disconnects.
///
/// The check uses its own client id, since a second connection with the configured id would take over the session of a running
/// replica. It keeps no session. It subscribes outside of the share group, since the broker would otherwise send it messages
/// that a member must process.
pub(crate) async fn check_broker(config: &MqttConfig) -> ConnectionCheck {
    // One time limit for connecting and one for subscribing.
    let limit = config.mqtt_connect_timeout * 2;
    let outcome = match timeout(limit, connect_and_subscribe(config)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("no answer for {} s", limit.as_secs())),
    };
    ConnectionCheck {
        target: config.mqtt_broker.to_string(),
        outcome,
    }
}

async fn connect_and_subscribe(config: &MqttConfig) -> anyhow::Result<String> {
    let mut probe_config = config.clone();
    probe_config.mqtt_client_id = Some(format!(
        "{}-check-{:x}",
        config.client_id(),
        std::process::id()
    ));
    probe_config.mqtt_session_expiry = Duration::ZERO;
    let options = options::options(&probe_config).context("cannot prepare the connection")?;
    let (client, mut eventloop) = AsyncClient::new(options, 16);
    wait_for(&mut eventloop, |packet| {
        matches!(packet, Packet::ConnAck(_))
    })
    .await
    .context("cannot connect")?;

    let filter = |topic: &String| Filter {
        retain_forward_rule: RetainForwardRule::Never,
        ..Filter::new(topic.clone(), QoS::AtMostOnce)
    };
    client
        .try_subscribe_many(config.mqtt_topic.iter().map(filter))
        .context("cannot subscribe")?;
    let answer = wait_for(&mut eventloop, |packet| matches!(packet, Packet::SubAck(_)))
        .await
        .context("connected, but cannot subscribe")?;
    if let Packet::SubAck(answer) = answer {
        for (topic, code) in config.mqtt_topic.iter().zip(&answer.return_codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                bail!("connected, but the subscription to `{topic}` is refused: {code:?}");
            }
        }
    }
    // An error does not matter: without a session, the broker keeps nothing.
    client.try_disconnect().ok();
    eventloop.poll().await.ok();
    Ok(format!("subscribed to {}", config.mqtt_topic.join(", ")))
}

async fn wait_for(
    eventloop: &mut EventLoop,
    is_wanted: impl Fn(&Packet) -> bool,
) -> anyhow::Result<Packet> {
    loop {
        if let Event::Incoming(packet) = eventloop.poll().await?
            && is_wanted(&packet)
        {
            return Ok(packet);
        }
    }
}
