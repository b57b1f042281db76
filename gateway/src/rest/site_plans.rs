//! The plans of sites on which the dashboard shows devices: images with the coordinates of their edges, from a folder that is read once, at
//! the start.
//!
//! An image is answered from memory, and never in a way that runs what may stand in an SVG.

pub(crate) mod files;

use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use shared::decimal::Decimal;

use self::files::SitePlan;
use super::context::RestContext;
use super::path::PlanPath;
use super::reply;
use crate::error::ApiError;

/// An SVG that is opened by itself is a page: it loads nothing, runs nothing, sends no form and stands in no frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The image is only for clients that may read, and may be another one after a restart.
const CACHING: &str = "private, no-cache";

#[derive(Serialize)]
struct PlanList<'a> {
    success: bool,
    count: usize,
    plans: Vec<ListedPlan<'a>>,
}

#[derive(Serialize)]
struct ListedPlan<'a> {
    id: &'a str,
    name: &'a str,
    site: Option<&'a str>,
    south: Decimal,
    west: Decimal,
    north: Decimal,
    east: Decimal,
    url: String,
}

impl<'a> ListedPlan<'a> {
    fn of(plan: &'a SitePlan) -> Self {
        let edges = plan.edges;
        Self {
            id: &plan.id,
            name: &plan.name,
            site: plan.site.as_deref(),
            south: edges.south,
            west: edges.west,
            north: edges.north,
            east: edges.east,
            // An id needs no escaping.
            url: format!("/api/site-plans/{}/image", plan.id),
        }
    }
}

/// `GET /api/site-plans`: in the order of the file.
pub(super) async fn list(State(context): State<RestContext>) -> Response {
    let plans: Vec<_> = context.site_plans.iter().map(ListedPlan::of).collect();
    reply::ok(&PlanList {
        success: true,
        count: plans.len(),
        plans,
    })
}

/// `GET /api/site-plans/{planId}/image`
pub(super) async fn image(
    State(context): State<RestContext>,
    PlanPath(id): PlanPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut plans = context.site_plans.iter();
    let plan = plans.find(|plan| plan.id == id);
    let plan = plan.ok_or(ApiError::UnknownPlan)?;
    let mut response = plan.image.answer(CACHING, &headers);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
