//! Checks the broker for `check-config`, without disturbing a replica that may be running.

use std::time::Duration;

use anyhow::{Context as _, bail};
use shared::check_config::ConnectionCheck;
use tokio::time::timeout;

use super::config::MqttConfig;
use super::connection_end::ConnectionEnd;
use super::protocol::{ClientOptions, EventLoop, Grant, Packet, QoS, Request, Subscription};

/// How long the check waits for messages, once it is subscribed.
const LISTEN: Duration = Duration::from_secs(5);

/// Connects, subscribes to every topic, listens for a few seconds, and disconnects.
///
/// The check uses its own client id, since a second connection with the configured id would take over the session of a running
/// replica. It keeps no session. It subscribes outside of the share group, since the broker would otherwise send it messages
/// that a member must process.
pub(crate) async fn check_broker(config: &MqttConfig) -> ConnectionCheck {
    // One time limit for connecting and one for subscribing.
    let limit = config.mqtt_connect_timeout * 2;
    let outcome = match timeout(limit, connect_and_subscribe(config)).await {
        Ok(Ok(probe)) => Ok(probe.listen(config).await),
        Ok(Err(err)) => Err(err),
        Err(_) => Err(anyhow::anyhow!("no answer for {} s", limit.as_secs())),
    };
    ConnectionCheck {
        target: config.mqtt_broker.to_string(),
        outcome,
    }
}

/// A subscribed connection.
struct Probe {
    client: super::protocol::Client,
    eventloop: EventLoop,
}

async fn connect_and_subscribe(config: &MqttConfig) -> anyhow::Result<Probe> {
    let mut probe_config = config.clone();
    probe_config.mqtt_client_id = Some(format!(
        "{}-check-{:x}",
        config.client_id(),
        std::process::id()
    ));
    probe_config.mqtt_session_expiry = Duration::ZERO;
    let options = ClientOptions::new(&probe_config).context("cannot prepare the connection")?;
    let (client, mut eventloop) = options.connect(16);
    wait_for(&mut eventloop, |packet| {
        matches!(packet, Packet::ConnAck { .. })
    })
    .await
    .context("cannot connect")?;

    let subscription = |filter: &String| Subscription {
        filter: filter.clone(),
        qos: QoS::AtMostOnce,
        retained: false,
    };
    let subscriptions = config.mqtt_topic.iter().map(subscription).collect();
    client
        .send(Request::Subscribe(subscriptions))
        .context("cannot subscribe")?;
    let answer = wait_for(&mut eventloop, |packet| matches!(packet, Packet::SubAck(_)))
        .await
        .context("connected, but cannot subscribe")?;
    if let Packet::SubAck(grants) = answer {
        for (topic, grant) in config.mqtt_topic.iter().zip(grants) {
            if let Grant::Refused(reason) = grant {
                bail!("connected, but the subscription to `{topic}` is refused: {reason}");
            }
        }
    }
    Ok(Probe { client, eventloop })
}

impl Probe {
    /// Listens for a while, disconnects, and describes what was found. A broker grants the subscription to any topic, also to
    /// one on which nobody publishes.
    async fn listen(mut self, config: &MqttConfig) -> String {
        let mut messages = 0_u64;
        let counting = async {
            while let Ok(packet) = self.eventloop.poll().await {
                if matches!(packet, Packet::Publish(publish) if !publish.retain) {
                    messages += 1;
                }
            }
        };
        timeout(LISTEN, counting).await.ok();
        // An error does not matter: without a session, the broker keeps nothing.
        if self.client.send(Request::Disconnect).is_ok() {
            let sent = wait_for(&mut self.eventloop, |packet| {
                matches!(packet, Packet::DisconnectSent)
            });
            timeout(LISTEN, sent).await.ok();
        }
        let topics = config.mqtt_topic.join(", ");
        let seconds = LISTEN.as_secs();
        match messages {
            0 => format!(
                "subscribed to {topics}; no message within {seconds} s (a granted subscription does not show that anything is \
                 published there: compare --mqtt-topic with the topic of the detectors)"
            ),
            _ => format!("subscribed to {topics}; {messages} messages within {seconds} s"),
        }
    }
}

async fn wait_for(
    eventloop: &mut EventLoop,
    is_wanted: impl Fn(&Packet) -> bool,
) -> Result<Packet, ConnectionEnd> {
    loop {
        let packet = eventloop.poll().await?;
        if is_wanted(&packet) {
            return Ok(packet);
        }
    }
}
