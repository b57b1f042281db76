//! The options of the MQTT client library.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rumqttc::v5::MqttOptions;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::config::MqttConfig;

pub(super) fn options(config: &MqttConfig) -> anyhow::Result<MqttOptions> {
    let broker = &config.mqtt_broker;
    let mut options = MqttOptions::new(config.client_id(), broker.host.clone(), broker.port);
    let expiry = u32::try_from(config.mqtt_session_expiry.as_secs()).unwrap_or(u32::MAX);
    let connect_timeout = config.mqtt_connect_timeout.as_secs().max(1);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(connect_timeout);
    options
        .set_network_options(network)
        .set_connection_timeout(connect_timeout)
        // The library panics below 5 s.
        .set_keep_alive(config.mqtt_keep_alive.max(Duration::from_secs(5)))
        .set_manual_acks(true)
        // A session outlives its connection only with all three: no clean start, an expiry and a stable client id.
        .set_clean_start(expiry == 0)
        .set_session_expiry_interval(Some(expiry))
        .set_receive_maximum(Some(config.mqtt_receive_maximum))
        // Sent to the broker, which then drops larger packets. Otherwise the broker would send such a packet again on every
        // connection, and each time it would end the connection.
        .set_max_packet_size(Some(config.mqtt_max_packet_size))
        // We publish nothing, and rumqttc allocates a slot for every message that could be in flight.
        .set_outgoing_inflight_upper_limit(1);
    if let Some(username) = &config.mqtt_username {
        let password = config.mqtt_password.as_ref();
        let password = password.map_or("", |password| password.expose());
        options.set_credentials(username.expose(), password);
    }
    if broker.tls {
        options.set_transport(tls()?);
    }
    Ok(options)
}

fn tls() -> anyhow::Result<Transport> {
    let native = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        bail!(
            "mqtts:// needs certificate authorities, and the system has none (install `ca-certificates`)"
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Transport::tls_with_config(TlsConfiguration::Rustls(
        Arc::new(config),
    )))
}
