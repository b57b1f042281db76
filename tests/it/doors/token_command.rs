//! The command `gateway token`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
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
    // What is printed first is the token; a warning may follow.
    let token = text.lines().next().context("a token")?;
    Ok(token.to_owned())
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
async fn why_a_token_is_refused_or_allows_nothing_is_said() -> Result<()> {
    let (issuer, stranger) = (TokenIssuer::new()?, TokenIssuer::new()?);
    let flags = issuer.flags();
    let mut arguments = vec!["inspect"];
    arguments.extend(flags.iter().map(String::as_str));
    let of = |issuer: &TokenIssuer, changes| issuer.token(Signed::EdDsa, changes);
    for (token, code, named) in [
        (
            of(&issuer, json!({"iss": "https://other.test"}))?,
            1,
            "`iss` is `https://other.test`, expected",
        ),
        (
            of(&issuer, json!({"aud": "other"}))?,
            1,
            "`aud` is `other`, expected",
        ),
        (
            of(&stranger, json!({}))?,
            1,
            "none of the keys for EdDSA (1) has signed it",
        ),
        (
            of(&issuer, json!({"sites": ["Harbour"]}))?,
            0,
            "it allows no device",
        ),
        (
            of(&issuer, json!({"verbs": []}))?,
            0,
            "`verbs` is missing or empty",
        ),
    ] {
        let (found, text) = token_command(&arguments, &token).await?;
        ensure!(
            found == code && text.contains(named),
            "{named}: {found}: {text}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_token_is_minted_that_a_gateway_would_refuse() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let key = format!("--signing-key-file={}", issuer.private_key("ed").display());
    let many: Vec<String> = (0..200).map(|number| format!("{number:0>64}")).collect();
    let many = format!("--devices={}", many.join(","));
    for (argument, code, named) in [
        ("--name= ", 1, "--name: expected 1 to 128 characters"),
        (
            many.as_str(),
            1,
            "a gateway would refuse this token: it has ",
        ),
        // For whoever tries out what expired tokens do.
        ("--for=0s", 0, "warning: --for: the token expires at once"),
    ] {
        let fixed = [
            "mint",
            &key,
            "--token-issuer=a",
            "--token-audience=b",
            "--subject=c",
        ];
        let (found, text) = token_command(&[&fixed[..], &[argument]].concat(), "").await?;
        ensure!(
            found == code && text.contains(named),
            "{argument}: {found}: {text}"
        );
    }
    Ok(())
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
