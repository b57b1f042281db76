//! The settings of tokens. The doc comments are texts of `gateway --help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use shared::args;

use super::value_parsers::trimmed;
use crate::http_client::server_url::ServerUrl;

/// How tokens (JWT) are checked.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the names of the flags")]
pub struct TokenConfig {
    /// File with the secret of tokens signed with HS256, at least 32 bytes
    #[arg(long, env, value_name = "FILE")]
    pub token_secret_file: Option<PathBuf>,

    /// Files with public keys of tokens, in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (`EdDSA`); a comma list, or several flags
    #[arg(long, env, value_name = "FILE", value_delimiter = ',')]
    pub token_key_files: Vec<PathBuf>,

    /// Address at which an identity provider publishes its public keys of tokens (JWKS): https, or http on this machine. They are
    /// fetched every 15 minutes, and when a token names a key that is not known
    #[arg(long, env, value_name = "URL")]
    pub(crate) token_jwks_url: Option<ServerUrl>,

    /// Who must have issued a token (claim `iss`); required with a key
    #[arg(long, env, value_name = "TEXT", value_parser = trimmed())]
    pub token_issuer: Option<String>,

    /// For whom a token must be (claim `aud`); required with a key
    #[arg(long, env, value_name = "TEXT", value_parser = trimmed())]
    pub token_audience: Option<String>,

    /// How far the clock of whoever issues tokens may be off
    #[arg(long, env, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub token_leeway: Duration,

    /// How long before its token expires a client gets `auth:expiring`
    #[arg(long, env, value_name = "TIME", default_value = "60s", value_parser = args::duration)]
    pub token_notice: Duration,

    /// How long a client may stay connected when its token has expired, to send a new one with `auth:refresh`; not shorter than the leeway
    #[arg(long, env, value_name = "TIME", default_value = "30s", value_parser = args::duration)]
    pub token_grace: Duration,

    /// Also take a token from the query parameter `token`, for clients that can set neither `auth` nor a header. Addresses with
    /// their queries stand in the logs of many proxies
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub token_in_query: bool,
}

impl TokenConfig {
    /// Returns whether tokens can be checked.
    pub(crate) fn has_keys(&self) -> bool {
        self.token_secret_file.is_some()
            || !self.token_key_files.is_empty()
            || self.token_jwks_url.is_some()
    }

    /// Returns the flags that are given although they need a key.
    pub(crate) fn given_without_keys(&self) -> Vec<&'static str> {
        let given = [
            ("--token-issuer", self.token_issuer.is_some()),
            ("--token-audience", self.token_audience.is_some()),
            ("--token-in-query", self.token_in_query),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(flag, _)| flag).collect()
    }
}
