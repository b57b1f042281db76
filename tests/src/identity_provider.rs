//! An identity provider with which people sign in: the npm package `oauth2-mock-server`.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::node_script::NodeScript;

/// How the provider knows the gateway.
pub const CLIENT: &str = "dashboard";

/// A running provider.
#[derive(Debug)]
pub struct IdentityProvider {
    port: u16,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    // Killed with the provider.
    child: Child,
}

#[derive(Deserialize)]
struct Answer {
    port: u16,
}

impl IdentityProvider {
    /// Starts a provider that signs in a user who may read and acknowledge every device.
    pub async fn start() -> Result<Self> {
        let NodeScript {
            child,
            commands,
            output,
        } = NodeScript::start("identity_provider.mjs")?;
        let mut provider = Self {
            port: 0,
            commands,
            answers: BufReader::new(output).lines(),
            child,
        };
        provider.port = provider.answer().await?.port;
        provider.set_claims(json!({})).await?;
        Ok(provider)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its name, which is also its address.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Signs ID tokens with these claims in addition to those of the user; `null` leaves one out.
    pub async fn set_claims(&mut self, changes: Value) -> Result<()> {
        let mut claims = json!({
            "sub": "user-1",
            "name": "Ada Example",
            "devices": ["*"],
            "verbs": ["read", "ack"],
        });
        let all = claims.as_object_mut().context("an object")?;
        let changes = changes.as_object().context("an object")?;
        all.extend(
            changes
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let line = format!("{claims}\n");
        self.commands.write_all(line.as_bytes()).await?;
        self.answer().await?;
        Ok(())
    }

    /// Ends it.
    pub async fn end(&mut self) -> Result<()> {
        self.child.kill().await.context("ending the provider")
    }

    async fn answer(&mut self) -> Result<Answer> {
        let line = self.answers.next_line().await?;
        let line = line.context("the provider has ended: run `tests/run`, which installs it")?;
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }
}
