//! What is said when a server and a service refuse each other, at a start and later.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::eventually::eventually;
use tests::repository;
use tests::server::{self, PASSWORD};
use tests::server_process::kept_environment;
use tests::stack::Plan;
use tests::tls::TlsSetup;

const SERIAL: &str = "OTSM-0001";

fn run(program: &str, arguments: &[String]) -> Result<Output> {
    Command::new(repository::binary(program)?)
        .args(arguments)
        .env_clear()
        .envs(kept_environment())
        .output()
        .with_context(|| format!("running {program}"))
}

/// Expects that a start ends with exit code 1 and one sentence, and that `check-config` says the same.
fn check_refused(program: &str, arguments: &[String], expected: &str) -> Result<()> {
    let output = run(program, arguments)?;
    let (log, text) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let shown = format!("{program} {arguments:?}: {text}{log}");
    ensure!(output.status.code() == Some(1), "{shown}");
    ensure!(text.contains(expected), "no `{expected}`: {shown}");
    ensure!(text.trim().lines().count() == 1, "one line: {shown}");
    ensure!(!log.contains(" running"), "{shown}");
    ensure!(
        !shown_without(&shown, arguments).contains("hunter2"),
        "{shown}"
    );

    let mut check = vec!["check-config".to_owned(), "--connect".to_owned()];
    check.extend(arguments.iter().cloned());
    let output = run(program, &check)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1), "{output:?}");
    let mut lines = text.lines();
    let said = lines.any(|line| line.contains("FAILED") && line.contains(expected));
    ensure!(said, "no `{expected}`: {text}");
    ensure!(!text.contains("hunter2"), "{text}");
    Ok(())
}

/// Removes the arguments from a text about them.
fn shown_without(text: &str, arguments: &[String]) -> String {
    text.replace(&format!("{arguments:?}"), "")
}

fn file(flag: &str, path: &Path) -> String {
    format!("--{flag}={}", path.display())
}

#[tokio::test]
async fn a_start_that_redis_refuses_is_an_error_that_names_the_setting() -> Result<()> {
    let setup = TlsSetup::make()?;
    let folder = tempfile::tempdir()?;
    let users = server::redis_users(folder.path())?;
    let mut flags = vec!["--aclfile".to_owned(), users.display().to_string()];
    flags.extend(setup.redis_flags().split(' ').map(str::to_owned));
    let redis = server::redis(folder.path(), &flags)?;
    redis.listens().await?;
    let stranger = setup.stranger()?;
    let (plain, tls) = (redis.port(), setup.redis_port());
    let ca = file("redis-ca-file", &setup.authority.file());
    let client = [
        file("redis-cert-file", &setup.client.certificate),
        file("redis-key-file", &setup.client.key),
    ];
    let with_ca = |more: &[String]| [std::slice::from_ref(&ca), more].concat();
    for (url, files, expected) in [
        (
            format!("redis://gateway:hunter2@localhost:{plain}"),
            vec![],
            "(WRONGPASS): check both in --redis-url",
        ),
        (
            format!("redis://gateway:hunter2@localhost:{tls}"),
            vec![],
            "give rediss:// in --redis-url",
        ),
        (
            format!("rediss://gateway:{PASSWORD}@localhost:{tls}"),
            client.to_vec(),
            "unknown issuer: give the certificate of its authority in --redis-ca-file",
        ),
        (
            format!("rediss://gateway:{PASSWORD}@localhost:{tls}"),
            [vec![file("redis-ca-file", &stranger)], client.to_vec()].concat(),
            "not from an authority in --redis-ca-file",
        ),
        (
            format!("rediss://gateway:{PASSWORD}@localhost:{tls}"),
            with_ca(&[]),
            "requires a client certificate: give --redis-cert-file and --redis-key-file",
        ),
        (
            format!("rediss://gateway:{PASSWORD}@127.0.0.1:{tls}"),
            with_ca(&client),
            "not for `127.0.0.1`, but for localhost",
        ),
    ] {
        let mut arguments = vec![
            "--allow-anonymous".to_owned(),
            "--http-port=0".to_owned(),
            "--listen-address=127.0.0.1".to_owned(),
            format!("--redis-url={url}"),
        ];
        arguments.extend(files);
        check_refused("gateway", &arguments, expected)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_start_that_the_broker_refuses_is_an_error_that_names_the_setting() -> Result<()> {
    let setup = TlsSetup::make()?;
    let stack = setup
        .plan()
        .broker_line("allow_anonymous true")
        .start()
        .await?;
    let redis = format!("--redis-url=redis://127.0.0.1:{}", stack.redis.port());
    let ca = file("mqtt-ca-file", &setup.authority.file());
    let (plain, tls) = (stack.broker.port(), setup.broker_port());
    for (url, files, expected) in [
        (
            format!("mqtt://localhost:{tls}"),
            vec![],
            "give mqtts:// in --mqtt-broker",
        ),
        (
            format!("mqtts://localhost:{plain}"),
            vec![ca.clone()],
            "does not speak TLS at this port",
        ),
        (
            format!("mqtts://localhost:{tls}"),
            vec![ca],
            "requires a client certificate: give --mqtt-cert-file and --mqtt-key-file",
        ),
    ] {
        let mut arguments = vec![
            "--http-port=0".to_owned(),
            "--listen-address=127.0.0.1".to_owned(),
            redis.clone(),
            format!("--mqtt-broker={url}"),
        ];
        arguments.extend(files);
        check_refused("ingest", &arguments, expected)?;
    }
    stack.pass()
}

#[tokio::test]
async fn a_wrong_password_of_the_broker_is_an_error_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let passwords = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["ingest", "right"])
        .status()?;
    ensure!(made.success(), "mosquitto_passwd");
    let lines = [
        "allow_anonymous false".to_owned(),
        format!("password_file {}", passwords.display()),
    ];
    let broker = server::mosquitto(folder.path(), &lines)?;
    broker.listens().await?;
    let redis = server::redis(folder.path(), &[])?;
    redis.listens().await?;
    let password = folder.path().join("password");
    let arguments = [
        "--http-port=0".to_owned(),
        "--listen-address=127.0.0.1".to_owned(),
        format!("--redis-url=redis://127.0.0.1:{}", redis.port()),
        format!("--mqtt-broker=mqtt://127.0.0.1:{}", broker.port()),
        "--mqtt-username=ingest".to_owned(),
        file("mqtt-password-file", &password),
    ];
    fs::write(&password, "hunter2\n")?;
    let expected = "does not accept the user name or password (NotAuthorized): check --mqtt-username and --mqtt-password";
    check_refused("ingest", &arguments, expected)?;
    fs::write(&password, "right\n")?;
    let check = [
        &["check-config".to_owned(), "--connect".to_owned()],
        &arguments[..],
    ]
    .concat();
    let output = run("ingest", &check)?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_password_that_changes_while_running_is_reported_and_does_not_end_the_services()
-> Result<()> {
    let stack = Plan::default().start().await?;
    let mut redis = stack.redis_connection().await?;
    let services = [
        (&stack.ingests[0], "ingest"),
        (&stack.gateways[0], "gateway"),
    ];
    let change =
        async |redis: &mut redis::aio::MultiplexedConnection, rule: String| -> Result<()> {
            for (_, user) in services {
                let mut command = redis::cmd("ACL");
                command.arg("SETUSER").arg(user).arg("resetpass").arg(&rule);
                command.exec_async(redis).await?;
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("USER").arg(user);
                kill.exec_async(redis).await?;
            }
            Ok(())
        };
    change(&mut redis, ">other".to_owned()).await?;
    for (service, name) in services {
        eventually(&format!("{name} tells the reason"), async || {
            let body = service.get("/readyz").await?.json()?;
            let reason = &body["dependencies"]["redis"]["reason"];
            let expected = json!("WRONGPASS: Redis does not accept the user or password");
            ensure!(*reason == expected, "{body}");
            Ok(())
        })
        .await?;
    }
    let log = stack.gateways[0].process.output();
    ensure!(log.contains("check both in --redis-url"), "{log}");
    change(&mut redis, format!(">{PASSWORD}")).await?;
    for (service, name) in services {
        eventually(&format!("{name} works again"), async || {
            let answer = service.get("/readyz").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
    }
    stack.device(SERIAL).send(3).await?;
    stack.shows(SERIAL, 3).await?;
    stack.pass()
}
