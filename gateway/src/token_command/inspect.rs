//! Prints what a token says, and whether a gateway with these settings accepts it.

use std::io::Read as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Parser;
use jsonwebtoken::dangerous::insecure_decode;
use serde::Serialize;
use serde_json::Value;
use shared::clock::SystemClock;

use crate::access::anonymous::Anonymous;
use crate::access::credential::Credential;
use crate::access::{Access, NotAdmitted, explanation};
use crate::config::tokens::TokenConfig;

/// Read a token from standard input, and print what it says and whether it is accepted
///
/// What it says is printed even if its signature is wrong. With the keys of the gateway it is checked as the gateway does, except
/// that nobody is asked whether it is revoked; published keys are fetched. Says why it is refused, or why it allows nothing. Exits with
/// 1 if it is refused.
#[derive(Debug, Parser)]
#[command(name = "inspect", bin_name = "gateway token inspect")]
pub(super) struct InspectArgs {
    #[command(flatten)]
    tokens: TokenConfig,
}

#[derive(Serialize)]
struct Inspected {
    algorithm: String,
    claims: Value,
    verdict: String,
    /// Why it is refused, or why it allows nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
pub(super) async fn inspect(args: InspectArgs) -> anyhow::Result<()> {
    let mut token = String::new();
    std::io::stdin()
        .take(64 << 10)
        .read_to_string(&mut token)
        .context("cannot read standard input")?;
    let token = token.trim();
    let decoded = insecure_decode::<Value>(token).context("this is no token (JWT)")?;
    let mut reasons = explanation::claim_notes(&decoded.claims);
    let refused = if args.tokens.has_keys() {
        let clock = Arc::new(SystemClock::default());
        let access = Access::new(&args.tokens, None, Anonymous::None, clock);
        let access = access.map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        access.revocations().set(Vec::new());
        let credential = Credential::Token(token.into());
        let admitted = match access.follow_keys() {
            // It never ends.
            Some(fetching) => tokio::select! {
                admitted = access.admit(&credential, None) => admitted,
                () = fetching => Err(NotAdmitted::KeysAway),
            },
            None => access.admit(&credential, None).await,
        };
        if admitted.is_err() {
            reasons.splice(
                0..0,
                access.explain(token, &decoded.header, &decoded.claims),
            );
        }
        Some(admitted.err())
    } else {
        None
    };
    let inspected = Inspected {
        algorithm: format!("{:?}", decoded.header.alg),
        claims: decoded.claims,
        verdict: match &refused {
            None => "not checked: pass the settings of the gateway for tokens".to_owned(),
            Some(None) => "accepted".to_owned(),
            Some(Some(reason)) => format!("refused: {reason}"),
        },
        reasons,
    };
    println!("{}", serde_json::to_string_pretty(&inspected)?);
    match refused {
        Some(Some(reason)) => bail!("{reason}"),
        _ => Ok(()),
    }
}
