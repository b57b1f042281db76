//! Requests that a stranger must not get through: foreign hosts, ambiguous requests, and retiring detectors.

use anyhow::{Result, ensure};
use tests::http;
use tests::neighbour::{self, Neighbour};
use tests::seed::Seed;

use super::floods::plan;

/// Requests that are refused, each with its status.
pub(super) const REFUSED: [(&str, &str); 6] = [
    (
        "403",
        "GET /api/devices HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\n",
    ),
    (
        "403",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\n",
    ),
    (
        "400",
        "GET /api/devices HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n",
    ),
    ("400", "GET /api/devices HTTP/1.1\r\n"),
    (
        "400",
        "POST /api/devices HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
    ),
    (
        "403",
        "DELETE /api/devices/OTSM-0001 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n",
    ),
];

#[tokio::test]
async fn strangers_get_nothing_and_delete_nothing() -> Result<()> {
    const ROUNDS: usize = 60;
    let stack = plan().operator_port().start().await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let port = stack.gateways[0].port();
    for _ in 0..ROUNDS {
        for (status, head) in REFUSED {
            let request = format!("{head}connection: close\r\n\r\n");
            let answer = http::send_raw(port, &request).await?;
            let start = format!("HTTP/1.1 {status}");
            ensure!(answer.starts_with(&start), "{head}: {answer}");
            ensure!(answer.matches("HTTP/1.1").count() == 1, "{head}: {answer}");
        }
    }
    let list = stack.get("/api/devices").await?.expect(200)?;
    ensure!(list["count"] == neighbour::DEVICES, "{list}");
    neighbour.finish(&stack, "refused requests").await?;
    stack.pass()
}
