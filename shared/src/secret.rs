//! Values that must not be printed: passwords, tokens, the user part of a URL.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Printed in place of a secret.
pub(crate) const MASK: &str = "***";

/// A password or token, printed as `***`. Only [`Secret::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the secret value.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl FromStr for Secret<String> {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// Replaces user and password of a URL by `***`. Returns any other text unchanged.
#[must_use]
pub fn without_user(text: &str) -> String {
    let masked = text.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let at = rest[..authority].rfind('@')?;
        Some(format!("{scheme}://{MASK}{}", &rest[at..]))
    });
    masked.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests;
