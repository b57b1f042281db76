//! Checks who sends a request and what it needs, before anything is read.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use shared::device::DeviceId;
use shared::metrics::LabelledCount;

use super::{path, rate};
use crate::access::identity::Identity;
use crate::access::permission::Verb;
use crate::access::{Access, CSRF, FORBIDDEN, NotAdmitted};
use crate::admission::Admission;
use crate::admission::caller::Caller;
use crate::audit::{Actor, AuditTrail};
use crate::client_address::ClientAddress;
use crate::error::ApiError;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// To be no anonymous client.
    Holder,
    /// To read any device. The answer has those that the client may read.
    Read,
    /// To do this with the device in the path.
    Device(Verb),
    /// To read every device.
    ReadsAll,
    /// To read every device, or to be an administrator.
    ReadsAllOrAdmin,
    /// To be an administrator.
    Administrator,
}

/// What the check works with.
#[derive(Clone)]
pub(super) struct AccessCheck {
    pub(super) access: Access,
    pub(super) refused: LabelledCount,
    pub(super) audit: AuditTrail,
    /// Limits what one subject asks, from whatever addresses; `None` at the port for operators.
    pub(super) admission: Option<Admission>,
    pub(super) needs: Needs,
}

/// Who sends a request. `None` if the route needs nothing.
#[derive(Clone, Debug)]
pub(super) struct Requester(pub(super) Option<Arc<Identity>>);

impl<S: Send + Sync> FromRequestParts<S> for Requester {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Arc<Identity>>().cloned()))
    }
}

impl Requester {
    /// Returns who may not read every device.
    pub(super) fn limited(&self) -> Option<&Arc<Identity>> {
        let identity = self.0.as_ref()?;
        (!identity.permission().reads_all()).then_some(identity)
    }

    /// Returns who acts from this address.
    pub(super) fn at(&self, address: ClientAddress) -> Actor<'_> {
        Actor {
            identity: self.0.as_deref(),
            address,
        }
    }

    /// Returns who sends the request.
    ///
    /// # Errors
    /// The client is anonymous.
    pub(super) fn holder(&self) -> Result<&Identity, ApiError> {
        let holder = self.0.as_deref();
        let holder = holder.filter(|identity| identity.subject().is_some());
        holder.ok_or(ApiError::Unauthorized(NotAdmitted::TokenRequired))
    }

    /// Returns the name of the holder of a token; `None` for an anonymous client.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.as_ref()?.shown_name()
    }
}

/// Refuses requests of clients that are not admitted, or that may not do what they ask for.
pub(super) async fn check(
    State(check): State<AccessCheck>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if check.needs == Needs::Nothing {
        return Ok(next.run(request).await);
    }
    let access = &check.access;
    let credential = access.credential(request.headers(), request.uri());
    let payer = check.admission.as_ref();
    let payer = payer.map(|admission| admission.payer(Caller::Address(address(&request))));
    let admitted = access.admit(&credential, payer).await;
    let identity = admitted.map_err(|error| {
        check.refuse(error.code(), None, &request);
        ApiError::from(error)
    })?;
    if let (Some(subject), Some(admission)) = (identity.subject(), &check.admission) {
        let route = request.extensions().get::<MatchedPath>();
        let route = route.map_or("", MatchedPath::as_str);
        let caller = admission.subject(subject);
        rate::count(admission, caller, route, request.method()).map_err(ApiError::Limited)?;
    }
    if !request.method().is_safe() && !access.is_meant(&identity, request.headers()) {
        check.refuse(CSRF, Some(&identity), &request);
        return Err(ApiError::NotMeant);
    }
    let permission = identity.permission();
    let is_allowed = match check.needs {
        Needs::Holder if identity.subject().is_none() => {
            let reason = NotAdmitted::TokenRequired;
            check.refuse(reason.code(), None, &request);
            return Err(reason.into());
        }
        Needs::Nothing | Needs::Holder => true,
        Needs::Read => permission.has(Verb::Read),
        Needs::Device(verb) => {
            let (mut parts, body) = request.into_parts();
            let params = path::decode(&mut parts, &()).await?;
            request = Request::from_parts(parts, body);
            let text = path::device_text(&params).unwrap_or_default();
            // The id as it is stored; a text that is no id is the same for all.
            let id: Option<DeviceId> = text.parse().ok();
            permission.allows(verb, id.as_ref().map_or(text, DeviceId::as_str))
        }
        Needs::ReadsAll => permission.reads_all(),
        Needs::ReadsAllOrAdmin => permission.reads_all() || permission.administers(),
        Needs::Administrator => permission.administers(),
    };
    if !is_allowed {
        check.refuse(FORBIDDEN, Some(&identity), &request);
        return Err(ApiError::Forbidden);
    }
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

impl AccessCheck {
    fn refuse(&self, code: &'static str, identity: Option<&Identity>, request: &Request) {
        self.refused.increment(code);
        let actor = Actor {
            identity,
            address: address(request),
        };
        let asked = format_args!("{} {}", request.method(), request.uri().path());
        self.audit.refused(actor, code, asked, None);
    }
}

fn address(request: &Request) -> ClientAddress {
    let address = request.extensions().get::<ClientAddress>().copied();
    address.unwrap_or_else(ClientAddress::unknown)
}
