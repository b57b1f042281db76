//! Values that a browser keeps for us and can neither read nor change. Every replica with the same secret can open them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The shortest secret, in bytes: as long as the keys that are derived from it.
const MIN_SECRET: usize = 32;
/// The longest sealed value, in bytes. Browsers keep cookies of 4 KiB, their names and attributes included.
pub(super) const MAX_SEALED: usize = 3800;

/// The secret of all replicas.
pub(super) struct SealSecret(hmac::Key);

/// Seals values for one purpose. What is sealed for another one cannot be opened.
pub(super) struct Seal(LessSafeKey);

/// A value is too long for a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("longer than the {MAX_SEALED} bytes that a cookie may have")]
pub(super) struct TooLong;

impl SealSecret {
    /// Reads the secret. Line breaks at the end do not count: editors and secret stores add them.
    ///
    /// # Errors
    /// The file cannot be used, for this reason.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let secret = bytes.trim_ascii_end();
        if secret.len() < MIN_SECRET {
            return Err(format!("a secret has at least {MIN_SECRET} bytes"));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Derives the key for a purpose.
    fn derive(&self, purpose: &str) -> hmac::Tag {
        hmac::sign(&self.0, purpose.as_bytes())
    }

    pub(super) fn seal_for(&self, purpose: &str) -> Seal {
        let key = UnboundKey::new(&AES_256_GCM, self.derive(purpose).as_ref());
        Seal(LessSafeKey::new(
            key.expect("the hash is as long as the key"),
        ))
    }

    /// Returns a key that signs, for a purpose.
    pub(super) fn signer_for(&self, purpose: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derive(purpose).as_ref())
    }
}

impl Seal {
    /// # Errors
    /// The value is too long for a cookie.
    pub(super) fn seal(&self, value: &impl Serialize) -> Result<String, TooLong> {
        let mut bytes = serde_json::to_vec(value).map_err(|_| TooLong)?;
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut bytes,
        );
        let tag = tag.map_err(|_| TooLong)?;
        let sealed = [&nonce[..], &bytes, tag.as_ref()].concat();
        let text = URL_SAFE_NO_PAD.encode(sealed);
        if text.len() <= MAX_SEALED {
            Ok(text)
        } else {
            Err(TooLong)
        }
    }

    /// Returns `None` for a text that was not sealed with this key.
    pub(super) fn open<T: DeserializeOwned>(&self, text: &str) -> Option<T> {
        if text.len() > MAX_SEALED {
            return None;
        }
        let mut sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::empty(), rest).ok()?;
        serde_json::from_slice(opened).ok()
    }
}

/// Returns bytes that nobody can guess.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random bytes");
    bytes
}

/// Returns a text of 43 characters that nobody can guess.
pub(super) fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<32>())
}

#[cfg(test)]
mod tests;
