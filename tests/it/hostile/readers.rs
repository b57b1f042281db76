//! Requests whose answers cost much, and clients that do not read them. They come from another address than the neighbour.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tests::http::{self, Response};
use tests::neighbour::Neighbour;
use tests::report;
use tests::seed::Seed;
use tests::stack::Stack;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::floods::plan;
use super::watchers::populate;

/// An address of this machine that the neighbour does not use.
pub(super) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Sends these requests again and again over several connections at once.
pub(super) async fn ask_much(
    port: u16,
    paths: &[&str],
    workers: usize,
    each: usize,
) -> Result<Vec<Response>> {
    let answers = try_join_all((0..workers).map(async |worker| {
        let mut answers = Vec::new();
        for turn in 0..each {
            let path = paths[(worker + turn) % paths.len()];
            answers.push(http::send_from(STRANGER, port, path).await?);
        }
        anyhow::Ok(answers)
    }));
    Ok(answers.await?.into_iter().flatten().collect())
}

/// Makes an alarm of a device change this often.
async fn flap(stack: &Stack, serial: &str, changes: usize) -> Result<()> {
    let device = stack.device(serial);
    for change in 0..changes {
        device.send([300, 20][change % 2]).await?;
    }
    device.send(21).await?;
    stack.shows(serial, 21).await.map(drop)
}

const UNKNOWN_WORD: &str = "/alarm-logs?alarm_type=bogus&limit=1";

#[tokio::test]
async fn costly_requests_are_answered_in_turn() -> Result<()> {
    const FLAPPING: &str = "OTSM-FLAPPING";
    const CHANGES: usize = 240;
    const WORKERS: usize = 12;
    const EACH: usize = 15;
    let stack = plan().start().await?;
    flap(&stack, FLAPPING, CHANGES).await?;
    populate(&stack, 300).await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let port = stack.gateways[0].port();
    let alerts = format!("/devices/{FLAPPING}/subtronics/alerts");
    let paths = [
        "/health",
        UNKNOWN_WORD,
        "/alarm-logs/statistics",
        &alerts,
        "/api/devices",
        "/alarm-logs?limit=1000",
    ];
    let answers = ask_much(port, &paths, WORKERS, EACH).await?;
    ensure!(answers.len() == WORKERS * EACH, "{}", answers.len());
    let refused = answers.iter().filter(|answer| answer.status == 503);
    for answer in refused.clone() {
        ensure!(!answer.header("retry-after").is_empty(), "{answer:?}");
    }
    let refused = refused.count();
    let bad = answers
        .iter()
        .find(|answer| answer.status != 200 && answer.status != 503);
    ensure!(bad.is_none(), "{bad:?}");
    let unknown = stack.get(UNKNOWN_WORD).await?;
    let found = unknown.expect(200)?;
    ensure!(found["logs"] == serde_json::json!([]), "{found}");
    let alerts = stack.get(&alerts).await?.expect(200)?;
    let count = alerts.as_array().context("no array")?.len();
    ensure!(count <= 100, "{count} alerts");
    neighbour.finish(&stack, "costly requests").await?;
    report::line(&format!(
        "costly requests: {} answered, {refused} of them with `busy`",
        answers.len()
    ));
    stack.pass()
}

/// Asks for the list of devices and reads nothing of the answer.
pub(super) async fn ask_and_stop_reading(port: u16) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind((STRANGER, 0).into())?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    let request = "GET /api/devices HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

#[tokio::test]
async fn readers_that_stop_hold_bounded_memory() -> Result<()> {
    const READERS: usize = 60;
    const ANSWER_BYTES: u64 = 3 << 20;
    /// Bytes that the kernel has taken are no memory of the gateway. The rest is one list that is being built, and the
    /// allocator.
    const REST: u64 = 24 << 20;
    let flags = format!("--answer-bytes={ANSWER_BYTES} --answer-time=5m");
    let stack = plan().gateway_flags(&flags).start().await?;
    populate(&stack, 900).await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let gateway = &stack.gateways[0];
    let before = gateway.process.resident_kib()? * 1024;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = ask_and_stop_reading(gateway.port()).await?;
        // Every one is answered, by the list or by a refusal.
        reader.read_exact(&mut [0]).await?;
        readers.push(reader);
    }
    let refused = gateway.metric("gateway_answers_refused_total").await?;
    ensure!(refused >= 1.0, "the bound was not reached");
    let grown = (gateway.process.resident_kib()? * 1024).saturating_sub(before);
    ensure!(grown <= ANSWER_BYTES + REST, "the gateway grew by {grown}");
    neighbour
        .finish(&stack, "readers that stop reading")
        .await?;
    report::line(&format!(
        "{READERS} readers that stop: {refused} refused, the gateway grew by {} KiB (bound {})",
        grown / 1024,
        (ANSWER_BYTES + REST) / 1024
    ));
    drop(readers);
    stack.pass()
}
