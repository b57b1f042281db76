//! `/auth`: signing in and out with a browser, and who is signed in.

use axum::extract::{RawQuery, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::clock::Time;
use shared::event::iso;
use shared::store::Revoked;

use super::access_check::Requester;
use super::context::RestContext;
use super::query::Query;
use super::reply;
use crate::access::permission::Verb;
use crate::access::sign_in::{Callback, SignIn, SignInError, Step};
use crate::audit::Actor;
use crate::client_address::ClientAddress;
use crate::error::ApiError;

#[derive(Serialize)]
struct SessionReply<'a> {
    subject: &'a str,
    name: &'a str,
    verbs: &'a [Verb],
    devices: Vec<&'a str>,
    #[serde(serialize_with = "iso")]
    expires: Time,
    /// What a page must send in `X-CSRF-Token` with everything that changes something. `null` for the holder of a token, which need not.
    csrf_token: Option<String>,
}

#[derive(Serialize)]
struct LogoutReply {
    success: bool,
}

/// `GET /auth/login`: sends the browser to the identity provider.
pub(crate) async fn login(
    State(context): State<RestContext>,
    client: ClientAddress,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref());
    let sign_in = sign_in(&context)?;
    let begun = sign_in.begin(query.text("return"), context.now()).await;
    let step = begun.inspect_err(|error| refused(&context, client, error, "GET /auth/login"))?;
    Ok(redirect(step))
}

/// `GET /auth/callback`: the identity provider sends the browser here.
pub(crate) async fn callback(
    State(context): State<RestContext>,
    client: ClientAddress,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref());
    let text = |key| query.text(key).map(str::to_owned);
    let callback = Callback {
        state: text("state"),
        code: text("code"),
        error: text("error"),
        iss: text("iss"),
    };
    let sign_in = sign_in(&context)?;
    let finished = sign_in.finish(callback, &headers, context.now()).await;
    let finished = finished.and_then(|(identity, step)| {
        if context.access.is_revoked(&identity) {
            return Err(SignInError::Revoked);
        }
        Ok((identity, step))
    });
    let (identity, step) =
        finished.inspect_err(|error| refused(&context, client, error, "GET /auth/callback"))?;
    let actor = Actor {
        identity: Some(&identity),
        address: client,
    };
    let session = identity.web_session();
    context.audit.session("signed_in", actor, session);
    Ok(redirect(step))
}

/// `POST /auth/logout`: ends the session at every replica, with its connections.
pub(crate) async fn logout(
    State(context): State<RestContext>,
    client: ClientAddress,
    requester: Requester,
) -> Result<Response, ApiError> {
    let sign_in = sign_in(&context)?;
    let holder = requester.holder()?;
    let session = holder.web_session();
    let ends = holder.expires();
    let mut revoked = Ok(());
    if let (Some(session), Some(ends)) = (session, ends) {
        let session = Revoked::Token(session.to_owned());
        let revoking = context.reader.store.revoke(&session, ends);
        revoked = context.reader.with_timeout(revoking).await;
        // Without an answer from Redis the session may still count elsewhere, and the browser cannot try again.
        let action = if revoked.is_ok() {
            "signed_out"
        } else {
            "sign_out_unconfirmed"
        };
        let actor = requester.at(client);
        context.audit.session(action, actor, holder.web_session());
    }
    // The browser forgets it in any case.
    let mut response = match revoked {
        Ok(()) => reply::ok(&LogoutReply { success: true }),
        Err(error) => ApiError::unavailable(error).into_response(),
    };
    set_cookies(&mut response, sign_in.sessions().end());
    Ok(response)
}

/// `GET /auth/session`: who sends the request.
pub(crate) async fn session(
    State(context): State<RestContext>,
    requester: Requester,
) -> Result<Response, ApiError> {
    let holder = requester.holder()?;
    let permission = holder.permission();
    let sign_in = context.access.sign_in();
    Ok(reply::ok(&SessionReply {
        subject: holder.subject().unwrap_or_default(),
        name: holder.shown_name().unwrap_or_default(),
        verbs: permission.verbs(),
        devices: permission.devices().collect(),
        expires: holder.expires().unwrap_or_default(),
        csrf_token: sign_in.and_then(|sign_in| sign_in.sessions().csrf_token(holder)),
    }))
}

/// Adds a sign-in that was refused to the audit trail.
fn refused(context: &RestContext, client: ClientAddress, error: &SignInError, asked: &str) {
    if let Some(reason) = error.for_audit() {
        let actor = Actor {
            identity: None,
            address: client,
        };
        let asked = format_args!("{asked}: {error}");
        context.audit.refused(actor, reason, asked, None);
    }
}

fn sign_in(context: &RestContext) -> Result<&SignIn, ApiError> {
    context.access.sign_in().ok_or(ApiError::NoSignIn)
}

fn redirect(step: Step) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(LOCATION, step.location);
    set_cookies(&mut response, step.cookies);
    response
}

fn set_cookies(response: &mut Response, cookies: impl IntoIterator<Item = HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}
