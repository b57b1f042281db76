//! Replaces the token of a connection.

use std::sync::Arc;

use serde::Serialize;

use super::context::ConnectionContext;
use super::refusal::Refusal;
use crate::access::NotAdmitted;
use crate::access::credential::Credential;
use crate::client::Client;
use crate::client::close_reason::CloseReason;
use crate::client_address::ClientAddress;
use crate::json;

/// The reply to `auth:refresh`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refreshed {
    ok: bool,
    /// Time until the new token expires.
    expires_in_ms: i64,
}

/// Takes a new token. If it allows fewer devices than the one before, the connection is closed: what was asked for until now may still be
/// on its way, also of devices that the client has left.
///
/// # Errors
/// The token is refused, and the connection goes on with the one before.
pub(super) async fn refresh(
    client: &Arc<Client>,
    token: Box<str>,
    ack: Option<i64>,
    address: ClientAddress,
    context: &ConnectionContext,
) -> Result<(), Refusal> {
    let before = client.identity();
    // Whoever has shown who it is needs not suffer from what others at its address do.
    let payer = match before.subject() {
        Some(subject) => context.admission.payer(context.admission.subject(subject)),
        None => context.payer(address),
    };
    let credential = Credential::Token(token);
    let admitted = context.access.admit(&credential, Some(payer)).await;
    let identity = admitted.map_err(Refusal::Unauthorized)?;
    if before.subject().is_some() && before.subject() != identity.subject() {
        return Err(Refusal::OtherSubject);
    }
    if !identity.permission().reads_all_of(before.permission()) {
        client.close(CloseReason::AccessNarrowed);
        return Ok(());
    }
    if before.subject().is_none()
        && let Some(subject) = identity.subject()
    {
        let place = context.admission.join(subject);
        let place = place.ok_or(Refusal::Unauthorized(NotAdmitted::TooManyConnections))?;
        client.set_place(place);
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
