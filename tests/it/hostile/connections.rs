//! Connections that send nothing, half a head, or half a body.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tests::http;
use tests::neighbour::Neighbour;
use tests::seed::Seed;
use tests::stack::Stack;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::floods::plan;

/// Opens connections and sends each these bytes, which are no whole request.
pub(super) async fn hold(port: u16, count: usize, bytes: &str) -> Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    while held.len() < count {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        // A connection that made room for another one may be closed already.
        stream.write_all(bytes.as_bytes()).await.ok();
        held.push(stream);
    }
    Ok(held)
}

pub(super) const HALF_A_HEAD: &str = "GET /api/devices HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
const HALF_A_BODY: &str = "POST /devices/OTSM-0001/subtronics/alerts/a1/acknowledge HTTP/1.1\r\n\
                           host: localhost\r\ncontent-type: application/json\r\n\
                           content-length: 1000\r\n\r\n{";

async fn probes_are_answered(stack: &Stack) -> Result<()> {
    for service in stack.gateways.iter().chain(&stack.ingests) {
        for path in ["/livez", "/readyz", "/metrics"] {
            let answer = service.get(path).await?;
            ensure!(answer.status == 200, "{path}: {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn connections_that_say_little_keep_nobody_waiting() -> Result<()> {
    const IDLE: usize = 1_200;
    const HALF: usize = 150;
    let stack = plan().operator_port().start().await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let (gateway, ingest) = (stack.gateways[0].port(), stack.ingests[0].port());
    let idle = hold(gateway, IDLE, "").await?;
    let idle_at_operators = hold(stack.gateways[0].operator_port(), IDLE, "").await?;
    let idle_at_ingest = hold(ingest, IDLE, "").await?;
    let heads = hold(gateway, HALF, HALF_A_HEAD).await?;
    probes_are_answered(&stack).await?;
    let bodies = (0..HALF).map(|_| http::send_raw(gateway, HALF_A_BODY));
    for answer in try_join_all(bodies).await? {
        ensure!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    probes_are_answered(&stack).await?;
    let held = [idle, idle_at_operators, idle_at_ingest, heads].map(|held| held.len());
    neighbour
        .finish(&stack, "connections that say little")
        .await?;
    ensure!(held == [IDLE, IDLE, IDLE, HALF], "held until here");
    stack.pass()
}
