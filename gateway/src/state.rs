//! The handles that every part of the gateway uses.

use std::sync::Arc;

use shared::clock::Clock;
use shared::store::Store;

use crate::access::Access;
use crate::admission::Admission;
use crate::audit::AuditTrail;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::rest::dashboard::files::DashboardFiles;
use crate::rest::site_plans::files::SitePlans;
use crate::status::StatusHandle;

/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) store: Store,
    pub(crate) access: Access,
    pub(crate) audit: AuditTrail,
    pub(crate) config: Arc<Config>,
    pub(crate) status: StatusHandle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) admission: Admission,
    /// `None` without `--dashboard-dir`.
    pub(crate) dashboard: Option<Arc<DashboardFiles>>,
    /// Empty without `--site-plans`.
    pub(crate) site_plans: Arc<SitePlans>,
}
