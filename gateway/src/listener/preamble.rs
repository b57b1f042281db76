//! What comes before HTTP on a connection: the header of a proxy, and the TLS handshake.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::address_limit::AddressLimit;
use super::certificate::ServerCertificate;
use super::connection::AbortableStream;
use super::proxy_protocol::ProxyProtocol;

/// What comes before HTTP on every connection of a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preamble {
    /// Every connection begins with a header of the PROXY protocol.
    pub(crate) proxy_protocol: Option<Arc<ProxyProtocol>>,
    /// How many TLS handshakes a network address may begin; `None`: any number.
    pub(crate) address_limit: Option<AddressLimit>,
    /// The certificate with which all connections use TLS; `None`: without TLS.
    pub(crate) certificate: Option<Arc<ServerCertificate>>,
}

impl Preamble {
    /// Reads it, each part in the time that the head of a request may take. `None` if the shutdown begins before.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(super) async fn read(
        &self,
        mut stream: AbortableStream,
        serving: &CancellationToken,
    ) -> anyhow::Result<Option<AbortableStream>> {
        let limit = stream.handle().head_limit();
        if let Some(proxy_protocol) = &self.proxy_protocol {
            let beginning = timeout(limit, proxy_protocol.begin(&mut stream));
            let Some(begun) = serving.run_until_cancelled(beginning).await else {
                return Ok(None);
            };
            begun.context("no PROXY header arrived in time")??;
        }
        let Some(certificate) = &self.certificate else {
            return Ok(Some(stream));
        };
        if let Some(limit) = &self.address_limit {
            limit.begin_tls(stream.handle().peer())?;
        }
        let accepting = timeout(limit, stream.secure(certificate.acceptor()));
        let Some(accepted) = serving.run_until_cancelled(accepting).await else {
            return Ok(None);
        };
        let outcome = match accepted {
            Ok(outcome) => outcome.context("no TLS with the peer"),
            Err(_) => Err(anyhow!("the TLS handshake took too long")),
        };
        if outcome.is_err() {
            certificate.metrics().handshake_failed.increment();
        }
        outcome.map(Some)
    }
}
