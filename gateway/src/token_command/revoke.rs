//! Revokes tokens in Redis, where every replica looks.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use shared::args::{self, Usage};
use shared::clock::SystemClock;
use shared::error_chain::error_chain;
use shared::keys::MAX_REVOKED;
use shared::redis::RedisConfig;
use shared::store::{AuditEntry, AuditPart, Revoked, ServiceRole, Store};

use crate::access::claims::exact;

/// Revoke a token, or every token of a subject
///
/// It takes effect at all replicas within a second, also on open connections, and ends by itself. A replica that cannot reach Redis
/// goes on with what it knows.
#[derive(Debug, Parser)]
#[command(name = "revoke", bin_name = "gateway token revoke")]
pub(super) struct RevokeArgs {
    /// Id of the token (claim `jti`)
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "subject",
        conflicts_with = "subject"
    )]
    id: Option<String>,

    /// Subject (claim `sub`) whose tokens are all revoked, also those that are issued later
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,

    /// How long it is revoked; longer than any token is valid
    #[arg(long = "for", value_name = "TIME", default_value = "30d", value_parser = args::duration)]
    revoked_for: Duration,

    /// End the revocation instead
    #[arg(long)]
    lift: bool,

    #[command(flatten)]
    redis: RedisConfig,
}

impl RevokeArgs {
    /// Reads the arguments, and the files that they name.
    pub(super) fn parse(args: Vec<OsString>) -> Result<Self, Usage> {
        let mut args: Self = args::parse(args)?;
        match args.redis.read_files() {
            problems if problems.is_empty() => Ok(args),
            problems => Err(Usage::Problems(problems)),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
pub(super) async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let what = match (args.id, args.subject) {
        (Some(id), _) => Revoked::Token(id),
        (None, Some(subject)) => Revoked::Subject(subject),
        (None, None) => bail!("--id or --subject is required"),
    };
    let text = match &what {
        Revoked::Token(text) | Revoked::Subject(text) => text,
    };
    if exact(text).is_none() {
        bail!(
            "no token has this id or subject: it is empty, longer than 128 characters, or has characters or blanks that cannot be seen"
        );
    }
    if args.revoked_for.is_zero() && !args.lift {
        bail!("--for 0s revokes nothing");
    }
    let server = args.redis.shown_url().to_owned();
    let store = Store::new(
        args.redis,
        ServiceRole::Gateway,
        Arc::new(SystemClock::default()),
    );
    let cannot = || format!("cannot change what is revoked at `{server}`");
    if args.lift {
        let was_there = store.lift_revocation(&what).await.with_context(cannot)?;
        if !was_there {
            bail!("{what} is not revoked");
        }
        audit(&store, "revocation_lifted", &what).await;
        println!("{what} is no longer revoked");
        return Ok(());
    }
    let known = store.revoked().await.with_context(cannot)?;
    if known.len() as u64 >= MAX_REVOKED {
        bail!(
            "{MAX_REVOKED} revocations are stored, which is the most: lift some, or wait for their end"
        );
    }
    // Measures how far this machine's clock is off.
    store.ping().await.with_context(cannot)?;
    let until = store.clock().now() + args.revoked_for;
    store.revoke(&what, until).await.with_context(cannot)?;
    audit(&store, "revoked", &what).await;
    println!("{what} is revoked until {}", until.to_iso());
    Ok(())
}

/// Writes it into the audit trail. It is done already, so a failure is a warning.
async fn audit(store: &Store, action: &str, what: &Revoked) {
    let entry = AuditEntry {
        id: format!("{:032x}", fastrand::u128(..)),
        action: action.to_owned(),
        detail: Some(what.to_string()),
        ..AuditEntry::default()
    };
    if let Err(error) = store.write_audit(AuditPart::Done, &entry).await {
        tracing::warn!(
            error = error_chain(&error),
            "cannot write it into the audit trail"
        );
    }
}
