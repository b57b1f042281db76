//! The options of the MQTT client library that do not depend on the version of the protocol.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::config::MqttConfig;

pub(super) fn network(config: &MqttConfig) -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(connect_timeout_seconds(config));
    network
}

pub(super) fn connect_timeout_seconds(config: &MqttConfig) -> u64 {
    config.mqtt_connect_timeout.as_secs().max(1)
}

/// Returns the interval of pings. The library panics below 5 s.
pub(super) fn keep_alive(config: &MqttConfig) -> Duration {
    config.mqtt_keep_alive.max(Duration::from_secs(5))
}

/// Returns user name and password, if there is a user name.
pub(super) fn credentials(config: &MqttConfig) -> Option<(&str, &str)> {
    let username = config.mqtt_username.as_ref()?;
    let password = config.mqtt_password.as_ref();
    let password = password.map_or("", |password| password.expose());
    Some((username.expose(), password))
}

/// Returns the transport; `None` for plain TCP.
pub(super) fn transport(config: &MqttConfig) -> anyhow::Result<Option<Transport>> {
    config.mqtt_broker.tls.then(tls).transpose()
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
