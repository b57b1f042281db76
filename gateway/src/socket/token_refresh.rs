//! Replaces the token of a connection.

use std::sync::Arc;

use serde::Serialize;
use shared::device::DeviceId;

use super::context::ConnectionContext;
use super::refusal::Refusal;
use crate::access::permission::Verb;
use crate::client::Client;
use crate::client::close_reason::CloseReason;
use crate::json;

/// The reply to `auth:refresh`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refreshed {
    ok: bool,
    /// Time until the new token expires.
    expires_in_ms: i64,
}

/// Takes a new token. `subscribed`: the devices of the client. If there is one that the new token does not allow, the connection is closed: what
/// was sent until now may still be on its way.
///
/// # Errors
/// The token is refused, and the connection goes on with the one before.
pub(super) async fn refresh<'a>(
    client: &Arc<Client>,
    token: &str,
    ack: Option<i64>,
    context: &ConnectionContext,
    mut subscribed: impl Iterator<Item = &'a DeviceId>,
) -> Result<(), Refusal> {
    let admitted = context.access.admit(Some(token)).await;
    let identity = admitted.map_err(Refusal::Unauthorized)?;
    let before = client.identity();
    if before.subject().is_some() && before.subject() != identity.subject() {
        return Err(Refusal::OtherSubject);
    }
    let permission = identity.permission();
    if !subscribed.all(|device| permission.allows(Verb::Read, device.as_str())) {
        client.close(CloseReason::AccessNarrowed);
        return Ok(());
    }
    let expires = identity.expires().unwrap_or_default();
    context.token_expiry.forget(client);
    client.set_identity(identity);
    context.token_expiry.watch(client);
    // It may have been revoked since it was admitted.
    if context.access.is_revoked(&client.identity()) {
        client.close(CloseReason::TokenRevoked);
    }
    if let Some(ack) = ack {
        let reply = Refreshed {
            ok: true,
            expires_in_ms: expires.millis_since(context.access.now()),
        };
        client.reply(None, ack, json::to_raw(&reply));
    }
    Ok(())
}
