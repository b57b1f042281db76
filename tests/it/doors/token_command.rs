//! The command `gateway token`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::repository;
use tests::server_process::kept_environment;
use tests::tokens::{AUDIENCE, ISSUER, Signed, TokenIssuer};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{OURS, rest, start};

/// Runs `gateway token` with this standard input. Returns the exit code, and everything that it printed.
pub(super) async fn token_command(arguments: &[&str], input: &str) -> Result<(i32, String)> {
    let mut child = Command::new(repository::binary("gateway")?)
        .arg("token")
        .args(arguments)
        .env_clear()
        .envs(kept_environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("its standard input")?;
    // A command that does not read it may have ended.
    stdin.write_all(input.as_bytes()).await.ok();
    drop(stdin);
    let output = child.wait_with_output().await?;
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().context("an exit code")?;
    Ok((code, String::from_utf8(text)?))
}

async fn mint(arguments: &[&str]) -> Result<String> {
    let (issuer, audience) = (
        format!("--token-issuer={ISSUER}"),
        format!("--token-audience={AUDIENCE}"),
    );
    let fixed = ["mint", &issuer, &audience, "--subject=operator-7"];
    let (code, text) = token_command(&[&fixed[..], arguments].concat(), "").await?;
    ensure!(code == 0, "{text}");
    Ok(text.trim().to_owned())
}

#[tokio::test]
async fn a_minted_token_opens_the_gateway_whose_key_it_has() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let secret = format!(
        "--token-secret-file={}",
        issuer.public_key(Signed::Hs256).display()
    );
    let of_file = |name: &str| format!("--signing-key-file={}", issuer.private_key(name).display());
    for key in [secret.clone(), of_file("rsa"), of_file("ec"), of_file("ed")] {
        let token = mint(&[&key, "--devices=OTSM-01*", "--verbs=read,ack", "--name=Ada"]).await?;
        let path = format!("/api/devices/{OURS}");
        rest(&stack, "GET", &path, Some(&token))
            .await?
            .expect(200)?;
        rest(&stack, "GET", "/api/devices/OTSM-0200", Some(&token))
            .await?
            .expect(403)?;
        rest(&stack, "DELETE", &path, Some(&token))
            .await?
            .expect(403)?;
        let flags = issuer.flags();
        let mut arguments = vec!["inspect"];
        arguments.extend(flags.iter().map(String::as_str));
        let (code, text) = token_command(&arguments, &format!("{token}\n")).await?;
        ensure!(code == 0, "{text}");
        let inspected: Value = serde_json::from_str(&text)?;
        ensure!(inspected["verdict"] == "accepted", "{text}");
        ensure!(inspected["claims"]["sub"] == "operator-7", "{text}");
        ensure!(inspected["claims"]["jti"].is_string(), "{text}");
        // Without keys it is shown, and not checked.
        let (code, text) = token_command(&["inspect"], &token).await?;
        ensure!(code == 0 && text.contains("not checked"), "{text}");
    }
    let expired = mint(&[&secret, "--for=0s"]).await?;
    let flags = issuer.flags();
    let mut arguments = vec!["inspect", "--token-leeway=0s"];
    arguments.extend(flags.iter().map(String::as_str));
    let (code, text) = token_command(&arguments, &expired).await?;
    ensure!(
        code == 1 && text.contains("refused: expired token"),
        "{text}"
    );
    stack.pass()
}

#[tokio::test]
async fn wrong_arguments_are_named() -> Result<()> {
    for (arguments, code, named) in [
        (&[][..], 2, "mint, inspect, revoke"),
        (&["revok"], 2, "`revok` is no command"),
        (&["--help"], 0, "Revoke a token"),
        (&["mint", "--help"], 0, "--subject"),
        (&["mint"], 2, "--token-issuer"),
        (&["revoke", "--redis-url=redis://127.0.0.1:1"], 2, "--id"),
        (
            &["revoke", "--id=1", "--redis-url=redis://127.0.0.1:1"],
            1,
            "redis://127.0.0.1:1",
        ),
        (&["inspect"], 1, "no token"),
        (&["inspect", "--token-issuer=x"], 1, "no token"),
    ] {
        let (found, text) = token_command(arguments, "").await?;
        ensure!(found == code, "{arguments:?}: {found}: {text}");
        ensure!(text.contains(named), "{arguments:?}: {text}");
    }
    Ok(())
}
