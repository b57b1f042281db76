//! The claims of a token (RFC 7519, section 4), and the rules by which they count.

use std::time::Duration;

use serde::Deserialize;
use shared::clock::Time;
use shared::visible_text::clean;

use super::NotAdmitted;
use super::identity::{Identity, TokenFacts};
use super::permission::{DevicePattern, MAX_PATTERNS, Permission, Verb};
use crate::config::tokens::TokenConfig;

/// A longer one would make tokens count for longer than their issuer wants.
const MAX_LEEWAY: Duration = Duration::from_mins(10);
/// The longest subject and the longest name, in characters, as in the body of an acknowledgement.
const MAX_NAME: usize = 128;

/// The claims that are read. Those of [`ClaimRules`] are checked before.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    sub: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    jti: Option<String>,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    /// Patterns of device ids. Without them the token allows no device.
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    verbs: Vec<Verb>,
    /// Sites and zones to which the token is limited. Devices do not have any yet, so such a token allows no device: it must not
    /// allow more than it says.
    #[serde(default)]
    sites: Option<Vec<String>>,
    #[serde(default)]
    zones: Option<Vec<String>>,
}

/// Who has issued a token, and for whom. Both are required.
#[derive(Debug, Deserialize)]
pub(super) struct Addressed {
    iss: OneOrMany,
    aud: OneOrMany,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Addressed {
    pub(super) fn is_for(&self, rules: &ClaimRules) -> bool {
        self.iss.has(&rules.issuer) && self.aud.has(&rules.audience)
    }
}

impl OneOrMany {
    fn has(&self, text: &str) -> bool {
        match self {
            Self::One(one) => one == text,
            Self::Many(many) => many.iter().any(|one| one == text),
        }
    }
}

/// What the claims of a token must be.
#[derive(Debug)]
pub(crate) struct ClaimRules {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) leeway: Duration,
}

impl ClaimRules {
    /// # Errors
    /// Issuer or audience is missing. One sentence per problem.
    pub(super) fn new(config: &TokenConfig) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut required = |flag: &str, value: &Option<String>| {
            let value = value.clone().filter(|value| !value.is_empty());
            value.unwrap_or_else(|| {
                problems.push(format!(
                    "{flag}: required beside a key for tokens, so that a token for another service is refused"
                ));
                String::new()
            })
        };
        let issuer = required("--token-issuer", &config.token_issuer);
        let audience = required("--token-audience", &config.token_audience);
        if config.token_leeway > MAX_LEEWAY {
            problems.push("--token-leeway: must be at most 10m".to_owned());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            issuer,
            audience,
            leeway: config.token_leeway,
        })
    }
}

impl Claims {
    /// Checks the times, and reads who the holder is and what it may do.
    pub(super) fn into_identity(
        self,
        rules: &ClaimRules,
        now: Time,
    ) -> Result<Identity, NotAdmitted> {
        let expires = time(self.exp).ok_or(NotAdmitted::Invalid)?;
        if expires + rules.leeway <= now {
            return Err(NotAdmitted::Expired);
        }
        if let Some(begins) = self.nbf {
            let begins = time(begins).ok_or(NotAdmitted::Invalid)?;
            if now + rules.leeway < begins {
                return Err(NotAdmitted::Invalid);
            }
        }
        let subject = exact(&self.sub).ok_or(NotAdmitted::Invalid)?;
        let name = self.name.as_deref().and_then(shown);
        if self.devices.len() > MAX_PATTERNS {
            return Err(NotAdmitted::Invalid);
        }
        let patterns = self.devices.iter();
        let patterns: Option<Vec<DevicePattern>> =
            patterns.map(|text| DevicePattern::parse(text)).collect();
        let is_limited = self.sites.is_some() || self.zones.is_some();
        let devices = match patterns {
            _ if is_limited => Vec::new(),
            patterns => patterns.ok_or(NotAdmitted::Invalid)?,
        };
        let id = self
            .jti
            .as_deref()
            .map(|id| exact(id).ok_or(NotAdmitted::Invalid));
        let token = TokenFacts {
            id: id.transpose()?,
            subject,
            name,
            expires,
        };
        Ok(Identity::of_token(
            token,
            Permission::new(self.verbs, devices),
        ))
    }
}

/// Reads seconds since 1970 (`NumericDate`).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range is checked, and parts of a millisecond do not count"
)]
pub(super) fn time(seconds: f64) -> Option<Time> {
    // Until the year 9999.
    let is_time = (0.0..253_402_300_800.0).contains(&seconds);
    is_time.then(|| Time::from_millis((seconds * 1000.0) as i64))
}

/// Returns a text that identifies something. It must be short and visible as it is: cleaned or cut, two of them could look the same.
pub(crate) fn exact(text: &str) -> Option<Box<str>> {
    shown(text).filter(|shown| **shown == *text)
}

/// Returns a text that may stand in logs and in the alarm log.
pub(crate) fn shown(text: &str) -> Option<Box<str>> {
    let text = text.trim();
    let fits = text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control);
    let text = clean(text);
    (fits && !text.trim().is_empty()).then(|| text.into())
}
