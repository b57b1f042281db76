//! Reads the public keys that an identity provider publishes (JWK set, RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::keys::{Key, RSA_BITS, bits};

/// The most keys of a set. A token may have to be tried with each.
const MAX_KEYS: usize = 32;
/// Bytes of a coordinate of P-256, and of a public key of Ed25519.
const COORDINATE: usize = 32;

/// Why a set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("it is no JSON with the field `keys`")]
    Unreadable,
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    #[error(
        "none of its keys can be used: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA), for signatures"
    )]
    NoKey,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// One published key. Other fields do not count.
#[derive(Deserialize)]
struct PublishedKey {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Returns the keys of a set with which signatures can be checked. Others are left out: they have other purposes.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Key>, KeySetError> {
    let set: KeySet = serde_json::from_slice(text).map_err(|_| KeySetError::Unreadable)?;
    if set.keys.len() > MAX_KEYS {
        return Err(KeySetError::TooMany);
    }
    let published = set.keys.into_iter();
    let published = published.filter_map(|key| serde_json::from_value::<PublishedKey>(key).ok());
    let keys: Vec<Key> = published.filter_map(PublishedKey::into_key).collect();
    if keys.is_empty() {
        return Err(KeySetError::NoKey);
    }
    Ok(keys)
}

impl PublishedKey {
    /// Returns `None` for a key that does not check signatures, or whose algorithm is none of ours.
    fn into_key(self) -> Option<Key> {
        let is_for_signatures = self
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig");
        let operations = self.key_ops.as_ref();
        let may_verify =
            operations.is_none_or(|operations| operations.iter().any(|op| op == "verify"));
        if !is_for_signatures || !may_verify {
            return None;
        }
        // Symmetric keys (`oct`) are none of these: whoever can read one could sign.
        let (algorithm, names, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => (Algorithm::RS256, &["RS256"][..], self.rsa()?),
            ("EC", Some("P-256")) => (Algorithm::ES256, &["ES256"][..], self.p256()?),
            ("OKP", Some("Ed25519")) => {
                (Algorithm::EdDSA, &["EdDSA", "Ed25519"][..], self.ed25519()?)
            }
            _ => return None,
        };
        let is_for_algorithm = self.alg.as_deref().is_none_or(|alg| names.contains(&alg));
        is_for_algorithm.then(|| Key {
            algorithm,
            id: self.kid.map(String::into_boxed_str),
            verifier: key,
        })
    }

    fn rsa(&self) -> Option<DecodingKey> {
        let (modulus, exponent) = (bytes(self.n.as_ref())?, bytes(self.e.as_ref())?);
        RSA_BITS
            .contains(&bits(&modulus))
            .then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
    }

    fn p256(&self) -> Option<DecodingKey> {
        let (x, y) = (self.x.as_ref()?, self.y.as_ref()?);
        let fit = [x, y]
            .into_iter()
            .all(|text| bytes(Some(text)).is_some_and(|it| it.len() == COORDINATE));
        fit.then(|| DecodingKey::from_ec_components(x, y).ok())
            .flatten()
    }

    fn ed25519(&self) -> Option<DecodingKey> {
        let x = self.x.as_ref()?;
        let fits = bytes(Some(x)).is_some_and(|bytes| bytes.len() == COORDINATE);
        fits.then(|| DecodingKey::from_ed_components(x).ok())
            .flatten()
    }
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

#[cfg(test)]
mod tests;
