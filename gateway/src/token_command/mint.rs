//! Prints a new token.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use shared::args;
use shared::clock::{Clock as _, SystemClock, millis};

use crate::access::claims::{ClaimRules, exact, shown};
use crate::access::explanation;
use crate::access::keys::secret;
use crate::access::permission::{DevicePattern, MAX_PATTERNS, Verb};

/// Print a new token
///
/// For development, and for operators without an identity provider. It is signed with the secret of the gateway (HS256), or with a
/// private key (RSA, P-256 or Ed25519) whose public half the gateway has. Whoever has either can make such tokens.
#[derive(Debug, Parser)]
#[command(name = "mint", bin_name = "gateway token mint")]
pub(super) struct MintArgs {
    /// File with the secret of tokens signed with HS256
    #[arg(
        long,
        env,
        value_name = "FILE",
        required_unless_present = "signing_key_file"
    )]
    token_secret_file: Option<PathBuf>,

    /// File with a private key in PEM, instead of the secret
    #[arg(long, value_name = "FILE", conflicts_with = "token_secret_file")]
    signing_key_file: Option<PathBuf>,

    /// Who issues the token (claim `iss`)
    #[arg(long, env, value_name = "TEXT")]
    token_issuer: String,

    /// For whom the token is (claim `aud`)
    #[arg(long, env, value_name = "TEXT")]
    token_audience: String,

    /// Who holds the token (claim `sub`)
    #[arg(long, value_name = "TEXT")]
    subject: String,

    /// What others are shown instead of the subject (claim `name`)
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,

    /// Ids of the devices that it allows, in which `*` stands for any characters; a comma list, or several flags
    #[arg(
        long,
        value_name = "PATTERN",
        value_delimiter = ',',
        default_value = "*"
    )]
    devices: Vec<String>,

    /// What it allows: read, ack, operate, admin; a comma list, or several flags
    #[arg(
        long,
        value_name = "VERB",
        value_delimiter = ',',
        default_value = "read",
        value_parser = verb
    )]
    verbs: Vec<Verb>,

    /// How long it is valid
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = args::duration)]
    valid_for: Duration,
}

/// Whoever mints a token for a shorter time wants an expired one.
const MIN_TIME: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct MintedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    jti: String,
    iat: i64,
    exp: i64,
    devices: &'a [String],
    verbs: &'a [Verb],
}

fn verb(text: &str) -> Result<Verb, String> {
    let quoted = serde_json::Value::String(text.trim().to_owned());
    serde_json::from_value(quoted).map_err(|_| "expected read, ack, operate or admin".to_owned())
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output of the command"
)]
pub(super) fn mint(args: &MintArgs) -> anyhow::Result<()> {
    check(args)?;
    let (algorithm, key) = signing_key(args)?;
    let now = SystemClock::default().now();
    let claims = MintedClaims {
        iss: &args.token_issuer,
        aud: &args.token_audience,
        sub: &args.subject,
        name: args.name.as_deref(),
        jti: format!("{:016x}", fastrand::u64(..)),
        iat: now.as_millis() / 1000,
        exp: (now.as_millis().saturating_add(millis(args.valid_for))) / 1000,
        devices: &args.devices,
        verbs: &args.verbs,
    };
    let token = encode(&Header::new(algorithm), &claims, &key).context("cannot sign the token")?;
    let rules = ClaimRules {
        issuer: args.token_issuer.clone(),
        audience: args.token_audience.clone(),
        leeway: Duration::ZERO,
    };
    let claims = serde_json::to_value(&claims)?;
    let mut problems = explanation::claim_problems(&claims, &rules, now);
    // Whoever tries out what expired tokens do wants one.
    if args.valid_for < MIN_TIME {
        eprintln!("gateway token mint: warning: --for: the token expires at once");
        problems.clear();
    }
    problems.extend(explanation::length_problem(&token));
    problems.extend(explanation::rsa_problem(&token, algorithm));
    if !problems.is_empty() {
        bail!("a gateway would refuse this token: {}", problems.join("; "));
    }
    println!("{token}");
    Ok(())
}

/// Refuses what a gateway would refuse.
fn check(args: &MintArgs) -> anyhow::Result<()> {
    if exact(&args.subject).is_none() {
        bail!(
            "--subject: expected 1 to 128 characters that can be seen, without blanks around them"
        );
    }
    if args
        .name
        .as_deref()
        .is_some_and(|name| shown(name).is_none())
    {
        bail!("--name: expected 1 to 128 characters that can be seen");
    }
    let is_pattern = |text: &String| DevicePattern::parse(text).is_some();
    if args.devices.len() > MAX_PATTERNS || !args.devices.iter().all(is_pattern) {
        bail!("--devices: expected up to {MAX_PATTERNS} ids or patterns of 1 to 128 bytes");
    }
    if args.token_issuer.is_empty() || args.token_audience.is_empty() {
        bail!("--token-issuer and --token-audience are required");
    }
    if !args.verbs.contains(&Verb::Read) && !args.verbs.contains(&Verb::Admin) {
        bail!("--verbs: whoever acknowledges or operates also needs read");
    }
    Ok(())
}

fn signing_key(args: &MintArgs) -> anyhow::Result<(Algorithm, EncodingKey)> {
    let read = |path: &PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    if let Some(path) = &args.signing_key_file {
        let pem = read(path)?;
        let ed = EncodingKey::from_ed_pem(&pem).map(|key| (Algorithm::EdDSA, key));
        let ec = || EncodingKey::from_ec_pem(&pem).map(|key| (Algorithm::ES256, key));
        let rsa = || EncodingKey::from_rsa_pem(&pem).map(|key| (Algorithm::RS256, key));
        return ed.or_else(|_| ec()).or_else(|_| rsa()).with_context(|| {
            format!(
                "`{}` is no private key in PEM: RSA, P-256 or Ed25519",
                path.display()
            )
        });
    }
    let Some(path) = &args.token_secret_file else {
        bail!("--token-secret-file or --signing-key-file is required");
    };
    let content = read(path)?;
    let secret = secret(&content).map_err(|problem| {
        anyhow::anyhow!(
            "--token-secret-file: cannot use `{}`: {problem}",
            path.display()
        )
    })?;
    let key = EncodingKey::from_secret(secret);
    Ok((Algorithm::HS256, key))
}
