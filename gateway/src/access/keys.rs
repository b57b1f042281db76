//! The keys with which tokens are checked. Each key counts for one algorithm alone (RFC 8725, section 3.1): a token that names
//! another one, or none, is refused before its signature is looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, DecodingKey, Header, decode_header};
use serde::de::DeserializeOwned;

use super::claims::{Addressed, ClaimRules};
use super::signature::is_signed;
use crate::config::tokens::TokenConfig;

/// The longest token, in bytes. It must fit into the head of a request.
pub(super) const MAX_TOKEN: usize = 8 * 1024;
/// The shortest secret, in bytes (RFC 7518, section 3.2: as long as the hash).
const MIN_SECRET: usize = 32;
/// Lengths of the modulus of an RSA key, in bits: shorter ones are not safe, and longer ones cost much for each token.
pub(super) const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// How a block of PEM begins.
const BLOCK: &[u8] = b"-----BEGIN";
/// Bytes of a point of the curve P-256, uncompressed.
const P256_POINT: usize = 65;

/// One key.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// The name by which tokens refer to it; `None` for a key from a file, and for one that was published without.
    pub(super) id: Option<Box<str>>,
    /// What checks signatures: a public key, or the secret.
    pub(super) verifier: DecodingKey,
}

/// A token is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotVerified {
    pub(super) reason: NotVerifiedReason,
    /// Signatures that were computed, and are not that of the token.
    pub(super) wrong_signatures: u32,
}

/// Why a token is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotVerifiedReason {
    /// It is refused, whatever other keys there may be.
    Refused,
    /// None of the keys has signed it.
    NoKey,
}

impl Key {
    /// Reads the keys that are given as files.
    ///
    /// # Errors
    /// A file cannot be used. One sentence per problem.
    pub(super) fn read_files(config: &TokenConfig) -> Result<Vec<Self>, Vec<String>> {
        let secret = config.token_secret_file.iter();
        let secret =
            secret.map(|path| of_file("--token-secret-file", path, |bytes| of_secret(&bytes)));
        let public = config.token_key_files.iter();
        let public = public.map(|path| of_file("--token-key-files", path, |bytes| of_pem(&bytes)));
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for key in secret.chain(public) {
            match key {
                Ok(key) => keys.push(key),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(keys)
        } else {
            Err(problems)
        }
    }

    /// Returns whether it may have signed a token with this header.
    pub(super) fn may_have_signed(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let is_named = match (&self.id, id) {
            (Some(own), Some(named)) => **own == *named,
            (None, _) | (_, None) => true,
        };
        self.algorithm == algorithm && is_named
    }
}

/// Checks the signature, the issuer and the audience of a token, and that it expires at all. Returns its claims.
pub(super) fn verify<'a, C: DeserializeOwned>(
    token: &str,
    keys: impl Iterator<Item = &'a Key>,
    rules: &ClaimRules,
) -> Result<C, NotVerified> {
    let mut wrong_signatures = 0;
    let refused = |wrong_signatures| NotVerified {
        reason: NotVerifiedReason::Refused,
        wrong_signatures,
    };
    if token.len() > MAX_TOKEN {
        return Err(refused(0));
    }
    let header = decode_header(token).map_err(|_| refused(0))?;
    if has_critical_extensions(&header) {
        return Err(refused(0));
    }
    let (message, signature) = token.rsplit_once('.').ok_or(refused(0))?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| refused(0))?;
    let id = header.kid.as_deref();
    let mut was_named = false;
    for key in keys.filter(|key| key.may_have_signed(header.alg, id)) {
        was_named |= key.id.is_some() && id.is_some();
        if is_signed(message.as_bytes(), &signature, key.algorithm, &key.verifier) {
            return signed_claims(token, rules).ok_or(refused(wrong_signatures));
        }
        // Another key of this algorithm may have signed it.
        wrong_signatures += 1;
    }
    // No other key can check the rest: symmetric ones are never published, and the key that is named is known.
    Err(match header.alg {
        Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA if !was_named => NotVerified {
            reason: NotVerifiedReason::NoKey,
            wrong_signatures,
        },
        _ => refused(wrong_signatures),
    })
}

/// Returns whether the header names extensions that whoever checks the token must understand (`crit`; RFC 7515, section 4.1.11). None is
/// understood here.
pub(super) fn has_critical_extensions(header: &Header) -> bool {
    header.crit.is_some()
}

/// Returns the claims of a token whose signature was checked, if it is for this service. Times are checked with the other claims, by the
/// clock of the service.
fn signed_claims<C: DeserializeOwned>(token: &str, rules: &ClaimRules) -> Option<C> {
    let addressed = insecure_decode_claims::<Addressed>(token);
    let is_ours = addressed.map(|addressed| addressed.is_for(rules));
    if !matches!(is_ours, Ok(true)) {
        tracing::debug!("refusing a token of another issuer, or for another service");
        return None;
    }
    let claims = insecure_decode_claims(token);
    claims
        .inspect_err(|error| tracing::debug!(%error, "refusing a token"))
        .ok()
}

fn of_file(
    flag: &str,
    path: &std::path::Path,
    read: impl FnOnce(Vec<u8>) -> Result<Key, String>,
) -> Result<Key, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| error.to_string());
    bytes
        .and_then(read)
        .map_err(|problem| format!("{flag}: cannot use `{shown}`: {problem}"))
}

/// A secret for HS256. Line breaks at the end do not count: editors and secret stores add them.
fn of_secret(bytes: &[u8]) -> Result<Key, String> {
    Ok(Key {
        algorithm: Algorithm::HS256,
        id: None,
        verifier: DecodingKey::from_secret(secret(bytes)?),
    })
}

/// Returns the secret in the content of a file.
///
/// # Errors
/// It cannot be used.
pub(crate) fn secret(bytes: &[u8]) -> Result<&[u8], String> {
    let secret = bytes.trim_ascii_end();
    if secret.starts_with(b"-----") {
        // Whoever has a public key could sign tokens with it.
        return Err("it is a key in PEM; public keys belong into --token-key-files".to_owned());
    }
    if secret.len() < MIN_SECRET {
        return Err(format!("a secret has at least {MIN_SECRET} bytes"));
    }
    Ok(secret)
}

/// Returns the length of a number without its leading zeros.
pub(super) fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let significant = &number[zeros..];
    let unused = significant.first().map_or(0, |byte| byte.leading_zeros());
    significant.len() * 8 - unused as usize
}

/// Returns the length of the modulus of an RSA key in DER (RFC 8017, A.1.1): a sequence that begins with it.
fn modulus_bits(der: &[u8]) -> Option<usize> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    let sequence = content_of(der, SEQUENCE)?;
    content_of(sequence, INTEGER).map(bits)
}

/// Returns the content of the first value in DER, which must have this tag.
fn content_of(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length = digits
            .iter()
            .fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
        (length, rest)
    };
    (found == tag).then(|| rest.get(..length)).flatten()
}

/// A public key in PEM: RSA for RS256, P-256 for ES256, Ed25519 for `EdDSA`.
fn of_pem(bytes: &[u8]) -> Result<Key, String> {
    if bytes.windows(11).any(|part| part == b"PRIVATE KEY") {
        return Err(
            "it is a private key; only its public half is needed here (`openssl pkey -pubout`)"
                .to_owned(),
        );
    }
    let blocks = bytes.windows(BLOCK.len()).filter(|part| *part == BLOCK);
    if blocks.count() > 1 {
        return Err("it has several keys; give each a file of its own".to_owned());
    }
    let ed = DecodingKey::from_ed_pem(bytes).map(|key| (Algorithm::EdDSA, key));
    let ec = || DecodingKey::from_ec_pem(bytes).map(|key| (Algorithm::ES256, key));
    let rsa = || DecodingKey::from_rsa_pem(bytes).map(|key| (Algorithm::RS256, key));
    let (algorithm, key) = ed.or_else(|_| ec()).or_else(|_| rsa()).map_err(|_| {
        "expected a public key in PEM: RSA, P-256 or Ed25519, in a block `PUBLIC KEY`".to_owned()
    })?;
    let content = key.try_get_as_bytes().unwrap_or_default();
    if algorithm == Algorithm::RS256 && !RSA_BITS.contains(&modulus_bits(content).unwrap_or(0)) {
        return Err(format!(
            "an RSA key has {} to {} bits",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    if algorithm == Algorithm::ES256 && content.len() != P256_POINT {
        return Err("of the elliptic curves, only P-256 (ES256) is supported".to_owned());
    }
    Ok(Key {
        algorithm,
        id: None,
        verifier: key,
    })
}
