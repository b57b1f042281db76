//! TLS for the connection to the broker.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Returns a configuration that trusts the certificate authorities of the system.
pub(super) fn config() -> anyhow::Result<Arc<ClientConfig>> {
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
    Ok(Arc::new(config))
}
