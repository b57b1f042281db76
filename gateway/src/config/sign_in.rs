//! The settings of signing in. The doc comments are texts of `gateway --help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::args;

use super::value_parsers::trimmed;
use crate::http_client::server_url::ServerUrl;

/// The longest session.
const MAX_SESSION: Duration = Duration::from_hours(12);

/// How people sign in with a browser.
#[derive(Args, Clone, Debug)]
pub struct SignInConfig {
    /// Identity provider with which people sign in (OpenID Connect): its issuer, under which `/.well-known/openid-configuration` is;
    /// https, or http on this machine
    #[arg(long, env, value_name = "URL", value_parser = trimmed())]
    pub oidc_issuer: Option<String>,

    /// How the identity provider knows this service; required with `--oidc-issuer`
    #[arg(long, env, value_name = "TEXT", value_parser = trimmed())]
    pub oidc_client_id: Option<String>,

    /// File with the secret of this service at the identity provider. Without it the provider must know the service as a public client
    #[arg(long, env, value_name = "FILE")]
    pub oidc_client_secret_file: Option<PathBuf>,

    /// Where browsers reach this service, as `https://gas.example.com`; required with `--oidc-issuer`. The identity provider must allow
    /// `/auth/callback` below it
    #[arg(long, env, value_name = "URL")]
    pub(crate) public_url: Option<ServerUrl>,

    /// File with the secret that seals the cookies of people who have signed in, at least 32 bytes, the same at all replicas; required
    /// with `--oidc-issuer`
    #[arg(long, env, value_name = "FILE")]
    pub session_key_file: Option<PathBuf>,

    /// How long somebody stays signed in, at most 12h
    #[arg(long, env, value_name = "TIME", default_value = "8h", value_parser = args::duration)]
    pub session_time: Duration,
}

impl SignInConfig {
    /// Returns whether people can sign in.
    pub(crate) fn is_on(&self) -> bool {
        self.oidc_issuer.is_some()
    }

    /// Returns what is missing or has no effect, one sentence each. Files are not read.
    pub(crate) fn problems(&self) -> Vec<String> {
        let others = [
            ("--oidc-client-id", self.oidc_client_id.is_some(), true),
            ("--public-url", self.public_url.is_some(), true),
            ("--session-key-file", self.session_key_file.is_some(), true),
            (
                "--oidc-client-secret-file",
                self.oidc_client_secret_file.is_some(),
                false,
            ),
        ];
        let wrong = others
            .into_iter()
            .filter_map(
                |(flag, is_given, is_needed)| match (self.is_on(), is_given) {
                    (true, false) if is_needed => {
                        Some(format!("{flag}: required with --oidc-issuer"))
                    }
                    (false, true) => Some(format!("{flag}: has no effect without --oidc-issuer")),
                    _ => None,
                },
            );
        let mut problems: Vec<String> = wrong.collect();
        if self.public_url.as_ref().is_some_and(|url| !url.is_origin()) {
            problems
                .push("--public-url: expected no path, as in `https://gas.example.com`".to_owned());
        }
        if self.session_time.is_zero() || self.session_time > MAX_SESSION {
            problems.push("--session-time: must be more than 0s and at most 12h".to_owned());
        }
        problems
    }
}
