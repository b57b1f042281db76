//! Two thousand official clients that subscribe in the same tick as the connect answer: none is forgotten.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::repository;
use tests::server_process::kept_environment;
use tests::stack::Stack;
use tokio::process::Command;

const CLIENTS: u64 = 2000;

#[tokio::test]
async fn two_thousand_clients_that_subscribe_with_the_connect_answer_are_all_answered() -> Result<()>
{
    let stack = Stack::start().await?;
    let serials = ["OTSM-0001", "OTSM-0002", "OTSM-0003", "OTSM-0004"];
    for serial in serials {
        stack.device(serial).send(120).await?;
        stack.shows(serial, 120).await?;
    }
    let output = Command::new("node")
        .arg(repository::script("burst.mjs")?)
        .arg(format!("http://127.0.0.1:{}", stack.gateways[0].port()))
        .arg(CLIENTS.to_string())
        .args(serials)
        .env_clear()
        .envs(kept_environment())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("`node` is missing: install Node 20")?;
    ensure!(output.status.success(), "{output:?}");
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    for count in ["connected", "acks", "snapshots", "both"] {
        assert_eq!(seen[count], CLIENTS, "{count}: {seen}");
    }
    stack.pass()
}
