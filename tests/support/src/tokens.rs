//! Tokens (JWT) as an identity provider would issue them, with keys of one test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Claim `iss` of every token that is not asked to be wrong.
pub const ISSUER: &str = "https://login.test";
/// Claim `aud` of every token that is not asked to be wrong.
pub const AUDIENCE: &str = "gas";

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// Issues tokens. Its keys are files, which are deleted with it.
#[derive(Debug)]
pub struct TokenIssuer {
    folder: TempDir,
}

impl TokenIssuer {
    /// Makes a secret, and a pair of keys for each other algorithm.
    pub fn new() -> Result<Self> {
        let issuer = Self {
            folder: tempfile::tempdir()?,
        };
        // 32 random bytes as hexadecimal digits.
        openssl(&["rand", "-hex", "-out", &issuer.text("secret"), "32"])?;
        for (name, options) in [
            ("rsa", &["-algorithm", "RSA"][..]),
            (
                "ec",
                &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            ),
            ("ed", &["-algorithm", "ED25519"]),
        ] {
            let private = issuer.text(name);
            let public = issuer.text(&format!("{name}.pub"));
            openssl(&[&["genpkey", "-out", &private][..], options].concat())?;
            openssl(&["pkey", "-in", &private, "-pubout", "-out", &public])?;
        }
        Ok(issuer)
    }

    /// Returns the flags of a gateway that accepts its tokens, whatever their algorithm.
    pub fn flags(&self) -> Vec<String> {
        let public = [Signed::Rs256, Signed::Es256, Signed::EdDsa].map(|signed| {
            let path = self.public_key(signed);
            path.display().to_string()
        });
        vec![
            format!("--token-secret-file={}", self.path("secret").display()),
            format!("--token-key-files={}", public.join(",")),
            format!("--token-issuer={ISSUER}"),
            format!("--token-audience={AUDIENCE}"),
        ]
    }

    /// Returns the file with the public key, or with the secret.
    pub fn public_key(&self, signed: Signed) -> PathBuf {
        match signed {
            Signed::Hs256 => self.path("secret"),
            Signed::Rs256 => self.path("rsa.pub"),
            Signed::Es256 => self.path("ec.pub"),
            Signed::EdDsa => self.path("ed.pub"),
        }
    }

    /// Returns a token with these claims in addition to [`claims`]; `null` leaves one out.
    pub fn token(&self, signed: Signed, changes: Value) -> Result<String> {
        let (algorithm, key) = self.signing_key(signed)?;
        Ok(encode(&Header::new(algorithm), &claims(changes), &key)?)
    }

    /// As [`Self::token`], with a header that names the key (`kid`).
    pub fn named_token(&self, signed: Signed, key_id: &str, changes: Value) -> Result<String> {
        let (algorithm, key) = self.signing_key(signed)?;
        let header = Header {
            kid: Some(key_id.to_owned()),
            ..Header::new(algorithm)
        };
        Ok(encode(&header, &claims(changes), &key)?)
    }

    /// As [`Self::token`], with a header that names extensions which whoever checks it must understand (`crit`).
    pub fn critical_token(&self, signed: Signed, extensions: &[&str]) -> Result<String> {
        let (algorithm, key) = self.signing_key(signed)?;
        let header = Header {
            crit: Some(extensions.iter().map(ToString::to_string).collect()),
            ..Header::new(algorithm)
        };
        Ok(encode(&header, &claims(json!({})), &key)?)
    }

    /// Returns a public key as an identity provider publishes it (JWK), under this name. The secret is published, too, as nobody
    /// should.
    pub fn published_key(&self, signed: Signed, key_id: &str) -> Result<Value> {
        let (algorithm, key) = self.signing_key(signed)?;
        let mut published = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm)?)?;
        published["kid"] = json!(key_id);
        published["use"] = json!("sig");
        Ok(published)
    }

    fn signing_key(&self, signed: Signed) -> Result<(Algorithm, EncodingKey)> {
        Ok(match signed {
            Signed::Hs256 => {
                let secret = std::fs::read(self.path("secret"))?;
                (
                    Algorithm::HS256,
                    EncodingKey::from_secret(secret.trim_ascii_end()),
                )
            }
            Signed::Rs256 => (
                Algorithm::RS256,
                EncodingKey::from_rsa_pem(&self.private("rsa")?)?,
            ),
            Signed::Es256 => (
                Algorithm::ES256,
                EncodingKey::from_ec_pem(&self.private("ec")?)?,
            ),
            Signed::EdDsa => (
                Algorithm::EdDSA,
                EncodingKey::from_ed_pem(&self.private("ed")?)?,
            ),
        })
    }

    /// Returns a token that is signed with HS256 and a public key as its secret.
    pub fn confused_token(&self, signed: Signed, changes: Value) -> Result<String> {
        let public = std::fs::read(self.public_key(signed))?;
        let key = EncodingKey::from_secret(&public);
        Ok(encode(
            &Header::new(Algorithm::HS256),
            &claims(changes),
            &key,
        )?)
    }

    /// Returns the file with a private key: `rsa`, `ec` or `ed`.
    pub fn private_key(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    fn private(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.private_key(name)).context("a private key")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        Path::to_string_lossy(&self.path(name)).into_owned()
    }
}

/// Returns the claims of a user who may read, acknowledge and operate every device for an hour, with these changes; `null`
/// leaves a claim out.
pub fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-1",
        "name": "Ada Example",
        "exp": seconds_from_now(3600),
        "devices": ["*"],
        "verbs": ["read", "ack", "operate"],
    });
    if let (Some(claims), Value::Object(changes)) = (claims.as_object_mut(), changes) {
        for (name, value) in changes {
            claims.insert(name, value);
        }
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

/// Returns a time for the claim `exp`.
#[expect(
    clippy::disallowed_methods,
    reason = "this crate cannot use the clock of `shared`, which depends on it"
)]
pub fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    i64::try_from(now)
        .unwrap_or(i64::MAX)
        .saturating_add(seconds)
}

fn openssl(arguments: &[&str]) -> Result<()> {
    let called = Command::new("openssl").args(arguments).output();
    let called = called.context("openssl comes with Debian's package of that name")?;
    let said = String::from_utf8_lossy(&called.stderr);
    ensure!(called.status.success(), "openssl {arguments:?}: {said}");
    Ok(())
}
